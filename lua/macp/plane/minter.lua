-- Tokens of the control plane from the token service: one at a time for everybody who waits, made anew before the old one
-- ends, and not asked for again and again while the service is away.

local fetch = require("host.fetch")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local MARGIN_MS = 40000          -- a token is not used in its last seconds
local REFRESH_AT = 0.8           -- of its lifetime
local LEAST_S = 60
local AWAY_MS, MOST_AWAY_MS = 2000, 30000
local MAX_REPLY_BYTES = 65536

---@class macp.plane.Minter
local Minter = {}
Minter.__index = Minter

local M = {}

---@param opts { url: string, timeout_ms: integer, ttl_s: integer, sender: string, can_manage: boolean,
---  allow_private: boolean, allow_hosts: string[]|nil, mono_ms: function|nil }
---@return macp.plane.Minter
function M.new(opts)
  local scopes = { can_start_sessions = false, is_observer = true,
    can_manage_mode_registry = opts.can_manage or nil }
  return setmetatable({
    url = opts.url:gsub("/+$", "") .. "/tokens", timeout_ms = opts.timeout_ms, ttl_s = opts.ttl_s,
    sender = opts.sender, mono_ms = opts.mono_ms or sys.mono_ms, minted = task.cond(), away_ms = AWAY_MS,
    body = json.encode({ sender = opts.sender, ttl_seconds = opts.ttl_s, scopes = scopes }),
    guard = opts.allow_private and "any" or "public", allow_hosts = opts.allow_hosts,
    ask_again_at = 0, expires_at = 0, refresh_at = 0,
  }, Minter)
end

-- The token of a reply and how many seconds it lives, or why there is none. (yields)
local function ask(self)
  local reply, err = fetch.request({
    url = self.url, method = "POST", headers = { ["content-type"] = "application/json" }, body = self.body,
    timeout_ms = self.timeout_ms, max_body_bytes = MAX_REPLY_BYTES, guard = self.guard, allow_hosts = self.allow_hosts,
  })
  if reply == nil then return nil, "network:" .. tostring(err.message) end
  if reply.status < 200 or reply.status > 299 then return nil, "http_" .. reply.status end
  local value = json.decode(tostring(reply.body or ""))
  if type(value) ~= "table" or type(value.token) ~= "string" or value.token == "" or value.token:find("[%c%s]") then
    return nil, "reply:no token"
  end
  local seconds = tonumber(value.expires_in_seconds)
  return value.token, seconds and seconds == seconds and math.max(LEAST_S, math.floor(seconds)) or self.ttl_s
end

-- (yields)
local function mint(self)
  local token, detail = ask(self)
  local now = self.mono_ms()
  if token == nil then
    self.ask_again_at = now + self.away_ms
    self.away_ms = math.min(self.away_ms * 2, MOST_AWAY_MS)
    log.warn("auth_mint_failure", { reason = detail })
  else
    self.token, self.away_ms, self.ask_again_at = token, AWAY_MS, 0
    local life_ms = detail * 1000
    self.expires_at = now + life_ms - MARGIN_MS
    local refresh_ms = life_ms * REFRESH_AT
    if refresh_ms > life_ms - MARGIN_MS then refresh_ms = (life_ms - MARGIN_MS) * REFRESH_AT end -- a short life
    self.refresh_at = now + refresh_ms
    log.info("auth_mint_success", { sender = self.sender, expires_in_s = detail })
  end
  self.minting = nil
  self.minted:broadcast()
end

-- Starts to mint unless that is being done, or was in vain a moment ago.
local function start(self)
  if self.minting or self.closed or self.mono_ms() < self.ask_again_at then return end
  self.minting = task.spawn(mint, self)
end

---A token that is good for a while yet; nil when there is none to be had now. (yields while the first one is made)
---@return string|nil
function Minter:get()
  local now = self.mono_ms()
  if self.token and now < self.expires_at then
    if now >= self.refresh_at then start(self) end
    return self.token
  end
  self.token = nil
  start(self)
  while self.minting do
    local ok = self.minted:wait()
    if not ok then return nil end
  end
  return self.token
end

---Ends what is under way.
function Minter:close()
  self.closed = true
  if self.minting then self.minting:cancel() end
end

return M
