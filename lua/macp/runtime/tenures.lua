-- How long streams and watches may stay: as long as the credential they were opened with is good. Its end is known in
-- advance (one timer for all), or found when tokens or keys change (all are looked at again); no frame is checked.

local log = require("host.log")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local codes = require("macp.protocol.codes")
local deadlines = require("macp.runtime.deadlines")

local MAX_WAIT_MS = 10000 -- the wall clock may jump
local BATCH = 64 -- credentials looked at before other tasks run

local EXPIRED = "the credential has expired"
local REVOKED = "the credential is no longer valid"
local REDUCED = "the credential has lost a right that this stream needs"

local Tenures = {}
Tenures.__index = Tenures

local M = {}

---@param opts { identities: table, now_ms: (fun(): integer)|nil }
function M.new(opts)
  return setmetatable({
    identities = opts.identities, now_ms = opts.now_ms or sys.now_ms, open = {}, due = deadlines.new(),
    wake = task.cond(), is_dirty = false, stopping = false,
  }, Tenures)
end

---Registers an open call. The scope is the call's own table: scope.finish(status, text) ends it, and scope.change(identity)
---tells it that its rights are others now; both may be set later, by whoever serves the call.
---@param call table host.rpc call
---@param identity macp.auth.Identity
---@param scope table
function Tenures:enter(call, identity, scope)
  scope.call, scope.identity = call, identity
  self.open[scope] = true
  if identity.expires_at_ms == nil then return end
  self.due:set(scope, identity.expires_at_ms)
  if self.due:first() == scope then self.wake:broadcast() end
end

---Forgets a call; one that never entered is fine.
function Tenures:leave(scope)
  self.open[scope] = nil
  self.due:set(scope, nil)
end

local function finish(self, scope, reason)
  self:leave(scope)
  log.info("stream.credential_ended", { sender = scope.identity.sender, reason = reason })
  local text = codes.text("UNAUTHENTICATED", reason)
  if scope.finish then
    scope.finish(rpc.status.UNAUTHENTICATED, text)
  else
    scope.call:finish(rpc.status.UNAUTHENTICATED, text)
  end
end

-- What the credential gives now. (yields)
local function look_again(self, scope)
  local before = scope.identity
  local identity, _, kind = self.identities:again(scope.call)
  if not self.open[scope] or kind == "unavailable" then return end
  if identity == nil or identity.sender ~= before.sender then return finish(self, scope, REVOKED) end
  if before.observer and not identity.observer then return finish(self, scope, REDUCED) end
  scope.identity = identity
  self.due:set(scope, identity.expires_at_ms)
  if scope.change then scope.change(identity) end
end

-- Looks at every open call again. (yields)
local function look_at_all(self)
  self.is_dirty = false
  local scopes = {}
  for scope in pairs(self.open) do scopes[#scopes + 1] = scope end
  for i, scope in ipairs(scopes) do
    if self.open[scope] then look_again(self, scope) end
    if i % BATCH == 0 and not task.sleep(0) then return end
  end
end

---Tokens or keys have changed.
function Tenures:recheck()
  self.is_dirty = true
  self.wake:broadcast()
end

---Ends calls whose time is over and looks at all of them when told, until stopped. (yields)
function Tenures:run()
  while not self.stopping do
    local scope, at = self.due:first()
    local now = self.now_ms()
    if self.is_dirty then
      look_at_all(self)
    elseif scope and at <= now then
      finish(self, scope, EXPIRED)
    elseif not self.wake:wait(scope and math.min(at - now, MAX_WAIT_MS) or MAX_WAIT_MS)
        and task.current():cancelled() then
      return
    end
  end
end

function Tenures:stop()
  self.stopping = true
  self.wake:broadcast()
end

return M
