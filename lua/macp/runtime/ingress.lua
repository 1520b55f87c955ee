-- The site's own gate (MACP_INGRESS_FILE): a Lua file that is asked, after everything the protocol checks, who may start a
-- session, send into it and read it. What it refuses never enters a history, so it may look anywhere and wait.

local log = require("host.log")

local codes = require("macp.protocol.codes")
local messages = require("macp.protocol.messages")
local session_record = require("macp.runtime.session")
local site_file = require("macp.runtime.site_file")
local tables = require("macp.core.tables")
local utf8 = require("macp.core.utf8")

local QUESTIONS = { start = "function", message = "function", read = "function" }
local MAX_REASONS, MAX_REASON_BYTES = 16, 255
local REFUSED, FAILED = "refused by the site's policy", "the site's policy failed"

---@class macp.runtime.Ingress
local Ingress = {}
Ingress.__index = Ingress

local M = {}

local function check(hooks) return site_file.members_problem(hooks, QUESTIONS, "a table of functions") end

---Reads and runs the site's file. (yields)
---@param path string
---@return macp.runtime.Ingress|nil ingress, string? problem names the variable
function M.load(path)
  local file, problem = site_file.open("MACP_INGRESS_FILE", path, check)
  if file == nil then return nil, problem end
  return setmetatable({ file = file, start_codec = messages.codec("macp.v1.SessionStartPayload") }, Ingress)
end

---Starts following the file: the next question is asked of the functions that it has then.
function Ingress:follow() self.file:follow() end

---Reads the file again; with a bad one the old functions stay. (yields)
function Ingress:reload() self.file:reload() end

---Ends the following. (yields)
function Ingress:close() self.file:close() end

-- What a hook gives as its reasons, fit to be sent.
local function reasons_of(why)
  local reasons = {}
  for _, reason in ipairs(type(why) == "table" and why or { why }) do
    local fits = type(reason) == "string" and reason ~= "" and #reason <= MAX_REASON_BYTES and utf8.is_text(reason)
    if fits and #reasons < MAX_REASONS then reasons[#reasons + 1] = reason end
  end
  if #reasons == 0 then reasons[1] = REFUSED end
  return reasons
end

-- Anything but true is a refusal, an error too. (yields when the hook does)
local function ask(self, question, ...)
  local hook = self.file.value[question]
  if hook == nil then return true end
  local ok, allowed, why = pcall(hook, ...)
  if ok and allowed == true then return true end
  if ok then return nil, reasons_of(why) end
  log.error("ingress.failed", { question = question, error = tostring(allowed) })
  return nil, { FAILED }
end

-- Copies: a hook changes nothing.
local function caller(identity) return { sender = identity.sender, is_observer = identity.observer == true } end

local function facts(session) return tables.deep_copy(session_record.metadata(session)) end

---Whether an envelope may go on to the kernel. (yields when the hook does; the session may be another one then)
---@param session table|nil the session of a message; not asked for starts
---@return true|nil, string? code, string? text, macp.runtime.Details? details
function Ingress:admit(identity, envelope, session)
  local message = { session_id = envelope.session_id, mode = envelope.mode, message_type = envelope.message_type,
    message_id = envelope.message_id, payload = envelope.payload }
  local ok, reasons
  if envelope.message_type == "SessionStart" then
    message.start = self.start_codec:decode(envelope.payload) -- nil when it does not decode: refused later
    ok, reasons = ask(self, "start", caller(identity), message)
  else
    ok, reasons = ask(self, "message", caller(identity), facts(session), message)
  end
  if ok then return true end
  return nil, "POLICY_DENIED", codes.text("POLICY_DENIED", table.concat(reasons, "; ")), { reasons = reasons }
end

---Whether somebody who may read a session by the protocol's rules may read it here. (yields when the hook does)
---@return true|nil, string? reason
function Ingress:may_read(identity, session)
  local ok, reasons = ask(self, "read", caller(identity), facts(session))
  if ok then return true end
  return nil, table.concat(reasons, "; ")
end

return M
