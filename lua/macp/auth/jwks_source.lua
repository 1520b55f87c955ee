-- Where the keys of an issuer come from, and how fresh they are. Keys that are known serve at once, whatever the place
-- they come from does: they are renewed in the background, and outlive an hour of failures. Only who needs keys that
-- nobody has waits, all for one attempt.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local jwks = require("macp.auth.jwks")

local GRACE_MS = 3600 * 1000
local RETRY_MS = 10000
local WAIT_MS = 6000 -- a little more than an attempt may take
local RENEW_SHARE = 0.8

---@class macp.auth.JwksSource
local Source = {}
Source.__index = Source

local M = {}

---@param opts { name: string, load: (fun(): string|nil, table|nil)|nil, ttl_ms: integer|nil, retry_ms: integer|nil,
---  grace_ms: integer|nil, mono_ms: (fun(): number)|nil } load yields the document's text; without ttl_ms keys never age
function M.new(opts)
  return setmetatable({
    name = opts.name, load = opts.load, ttl_ms = opts.ttl_ms, grace_ms = opts.grace_ms or GRACE_MS,
    retry_ms = opts.retry_ms or RETRY_MS, mono_ms = opts.mono_ms or sys.mono_ms,
    set = nil, loaded_at = nil, attempted_at = -math.huge, has_failed = false, attempts = 0,
    changed = task.cond(), listeners = {}, closed = false,
  }, Source)
end

---Calls fn() whenever other keys have taken the place of the known ones.
function Source:on_change(fn) self.listeners[#self.listeners + 1] = fn end

---Takes a document's keys. With a bad one the old keys stay.
---@return true|nil ok, string? reason
function Source:accept(text)
  local set, reason = jwks.parse(text)
  if set == nil then return nil, reason end
  self.loaded_at = self.mono_ms()
  if self.set and self.set.digest == set.digest then return true end
  local is_first = self.set == nil
  self.set = set
  log.info("jwks.loaded", { source = self.name, keys = set.count })
  for _, text_of_skip in ipairs(set.skipped) do
    log.warn("jwks.key_skipped", { source = self.name, reason = text_of_skip })
  end
  if not is_first then
    for _, fn in ipairs(self.listeners) do fn() end
  end
  return true
end

-- One attempt, in a task of its own. (yields)
local function attempt(self)
  local text, err = self.load()
  local accepted, reason = nil, err and err.message
  if text then accepted, reason = self:accept(text) end
  self.has_failed = not accepted
  if not accepted and not self.closed then
    local known = self.set and self.set.count or 0
    log.warn("jwks.refresh_failed", { source = self.name, reason = reason, known_keys = known })
  end
  self.running = nil
  self.changed:broadcast()
end

-- Renews the keys before they are old, until the source is closed. (yields)
local function keep_fresh(self)
  while not self.closed do
    local due = self.loaded_at + self.ttl_ms * RENEW_SHARE
    if self.has_failed then due = math.max(due, self.attempted_at + self.retry_ms) end
    local wait = due - self.mono_ms()
    if wait <= 0 and not self.running then self:start_attempt() end
    wait = self.running and WAIT_MS or math.max(wait, 1)
    if not self.changed:wait(wait) and task.current():cancelled() then return end
  end
end

---Starts an attempt in the background, unless one runs.
function Source:start_attempt()
  if self.load == nil or self.closed or self.running then return end
  self.attempted_at, self.attempts = self.mono_ms(), self.attempts + 1
  self.running = task.spawn(attempt, self)
end

-- Waits for the attempt that runs. (yields)
local function wait_attempt(self)
  local deadline = sys.mono_ms() + WAIT_MS
  while self.running do
    local left = deadline - sys.mono_ms()
    if left <= 0 or (not self.changed:wait(left) and task.current():cancelled()) then return end
  end
end

local function is_usable(self)
  if self.set == nil then return false end
  return self.ttl_ms == nil or self.mono_ms() - self.loaded_at < self.ttl_ms + self.grace_ms
end

---The keys, if there are any that may be used right now.
---@return table|nil
function Source:current()
  if is_usable(self) then return self.set.keys end
  return nil
end

---The keys; only when there are none the caller waits for an attempt, and only if none failed just now. (yields)
---@return table|nil keys, string? reason
function Source:get()
  if not is_usable(self) then
    if not self.has_failed or self.mono_ms() - self.attempted_at >= self.retry_ms then self:start_attempt() end
    wait_attempt(self)
    if not is_usable(self) then return nil, "the keys of the issuer are not available" end
  end
  if self.ttl_ms and not self.keeper and not self.closed then self.keeper = task.spawn(keep_fresh, self) end
  return self.set.keys
end

---Looks for newer keys than the given ones because of a kid they do not have; at most once per retry_ms. (yields)
---@return boolean are_other whether there are other keys now
function Source:look_again(keys)
  if self.set and self.set.keys ~= keys then return true end
  if not self.running and self.mono_ms() - self.attempted_at >= self.retry_ms then self:start_attempt() end
  wait_attempt(self)
  return self.set ~= nil and self.set.keys ~= keys
end

---Ends what runs in the background. (yields)
function Source:close()
  self.closed = true
  for _, name in ipairs({ "keeper", "running" }) do
    local running = self[name]
    if running then
      running:cancel()
      running:join()
    end
  end
end

return M
