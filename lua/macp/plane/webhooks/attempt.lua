-- One attempt: posts a body to a receiver and tells what came of it. Redirects are not followed; the address is checked
-- where the connection is made, so that a name cannot point elsewhere meanwhile. What the receiver says is read in part.

local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")
local time = require("macp.core.time")
local retry = require("macp.plane.webhooks.retry")
local signature = require("macp.plane.webhooks.signature")
local text = require("macp.plane.text")

local MAX_READ = 65536 -- of a reply; what is longer is cut off with its connection
local SNIPPET = 512
local GONE = 410

local M = {}

-- Reads the reply to its end or to the limit. The status is the answer, however the rest ends. (yields)
local function read_some(reply)
  local pieces, size = {}, 0
  while size < MAX_READ do
    local piece = reply:read()
    if piece == nil then break end
    piece = tostring(piece)
    if size < SNIPPET then pieces[#pieces + 1] = piece end
    size = size + #piece
  end
  local body = table.concat(pieces)
  return body ~= "" and text.printable(body:sub(1, SNIPPET)) or nil
end

---@param opts { timeout_ms: integer, allow_private: boolean, allow_hosts: string[], now_ms: fun(): integer }
---@param delivery { id: string, event: string, body: string, url: string, secret: string,
---  previous_secret: string|nil }
---@return { ok: boolean, status: integer|nil, error: string|nil, snippet: string|nil, asked_ms: integer|nil,
---  is_gone: boolean, ms: number, at_ms: integer }|nil outcome
---@return table|nil err CANCELLED: the attempt was broken off, nothing is known
---(yields)
function M.post(opts, delivery)
  local at_ms, began = opts.now_ms(), sys.mono_ms()
  local headers = signature.headers(delivery, math.floor(at_ms / 1000), delivery.body)
  headers["content-type"] = "application/json"
  headers["x-macp-event"], headers["x-macp-delivery"] = delivery.event, delivery.id
  local reply, err = fetch.open({
    url = delivery.url, method = "POST", headers = headers, body = delivery.body, timeout_ms = opts.timeout_ms,
    guard = opts.allow_private and "any" or "public", allow_hosts = opts.allow_hosts,
  })
  local outcome = { ok = false, is_gone = false, at_ms = at_ms }
  if reply == nil then
    if err.code == "CANCELLED" then return nil, err end
    outcome.error = text.printable(err.message)
  else
    local status = reply.status
    local left = math.max(1, opts.timeout_ms - (sys.mono_ms() - began))
    outcome.status, outcome.snippet = status, task.with_deadline(left, read_some, reply)
    outcome.asked_ms = retry.asked_ms(reply.headers["retry-after"], at_ms)
    outcome.ok = status >= 200 and status <= 299
    outcome.is_gone = status == GONE
    if not outcome.ok then outcome.error = "webhook returned " .. status end
    reply:close()
  end
  outcome.ms = sys.mono_ms() - began
  return outcome
end

---An attempt as the log keeps it, JSON text.
function M.entry(outcome)
  return json.encode({ at = time.iso(outcome.at_ms), status = outcome.status, error = outcome.error,
    durationMs = math.floor(outcome.ms), response = outcome.snippet })
end

return M
