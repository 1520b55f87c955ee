-- Retention: what is older than the operator wants to keep is deleted, in short transactions with pauses between them, by
-- one process at a time. Also without it the events of deleted runs are cleared away, and deleted runs are forgotten once
-- the runtime no longer tells about their sessions.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")

local db_door = require("macp.store.db")
local deletions_store = require("macp.store.deletions")
local retention_store = require("macp.store.retention")

local FIRST_MS = 10000
local HOUR_MS, DAY_MS = 3600000, 86400000
local PAUSE_MS = 50
local TOLD_MS = 15000
local SESSIONS = 500 -- that one statement takes note of

---@class macp.plane.Retention
local Retention = {}
Retention.__index = Retention

local M = {}

---@param opts { db: table, url: string, enabled: boolean, ttl_days: integer, run_days: table<string, integer>|nil,
---  interval_hours: integer, batch_size: integer, client: table|nil, metrics: table|nil } run_days: of runs by their
---  status, where it is not ttl_days; client: asked which sessions the runtime still has; nil: sessions are not discovered
---@return macp.plane.Retention
function M.new(opts)
  local self = setmetatable(opts, Retention)
  self.run_days = self.run_days or {}
  self.woken = task.cond()
  return self
end

---Days since their end after which runs are deleted, by status.
---@return { completed: integer, failed: integer, cancelled: integer }
function Retention:days()
  local days = self.run_days
  return { completed = days.completed or self.ttl_days, failed = days.failed or self.ttl_days,
    cancelled = days.cancelled or self.ttl_days }
end

---Before when runs must have ended to be deleted now.
---@return macp.store.Cutoffs
function Retention:cutoffs()
  local now, before = sys.now_ms(), {}
  for status, days in pairs(self:days()) do before[status] = now - days * DAY_MS end
  return before
end

-- One pass: its connection, and what it did so far.
local Pass = {}
Pass.__index = Pass

local function lost()
  return errors.new("SERVICE_UNAVAILABLE", nil, "the connection with the retention lock was lost")
end

function Pass:count(kind, n)
  self.counts[kind] = self.counts[kind] + n
  if self.metrics and n > 0 then self.metrics.deleted(kind, n) end
  if sys.mono_ms() - self.told_at < TOLD_MS then return end
  self.told_at = sys.mono_ms()
  log.info("retention.progress", self.counts)
end

-- Runs fn(tx) in transactions of its own until it returns { n, is_last = true }, with pauses after those that deleted
-- something. (yields)
function Pass:repeated(fn)
  while true do
    local done, err = db_door.tx(self.db, function(tx)
      local held, held_err = retention_store.is_held(tx, self.pid)
      if held == nil then return nil, held_err end
      if not held then return nil, lost() end
      return fn(tx)
    end)
    if done == nil then return nil, err end
    if done.is_last then return true end
    local slept, sleep_err = task.sleep(done.n > 0 and PAUSE_MS or 0)
    if not slept then return nil, sleep_err end
  end
end

-- (yields)
function Pass:delete_runs(tenant)
  local last
  return self:repeated(function(tx)
    local rows, err = deletions_store.expired(tx, tenant, last, self.cutoffs, self.batch_size)
    if rows == nil then return nil, err end
    if #rows == 0 then return { n = 0, is_last = true } end
    local ids = {}
    for _, row in ipairs(rows) do
      if row.is_due then ids[#ids + 1] = row.id end
    end
    last = rows[#rows]
    if #ids == 0 then return { n = 0 } end
    local done, delete_err = deletions_store.delete(tx, tenant, ids, self.cutoffs)
    if done == nil then return nil, delete_err end
    self:count("runs", done.deleted)
    self:count("events", done.events)
    return { n = done.deleted }
  end)
end

-- A short batch is the last one. (yields)
function Pass:delete_rows(tenant, kind, delete)
  return self:repeated(function(tx)
    local n, err = delete(tx, tenant, self.before_ms, self.batch_size)
    if n == nil then return nil, err end
    self:count(kind, n)
    return { n = n, is_last = n < self.batch_size }
  end)
end

-- Takes note of the sessions that the runtime still has. (yields)
local function see_sessions(self)
  local ids = {}
  local function write()
    local done, err = deletions_store.see_many(self.db, ids)
    ids = {}
    if done == nil then return nil, err end
    return true
  end
  local listed, err = self.client:each_session(function(metadata)
    ids[#ids + 1] = metadata.session_id
    if #ids < SESSIONS then return true end
    return write()
  end)
  if not listed and not errors.is(err, "NOT_IMPLEMENTED") then return nil, err end
  if #ids == 0 then return true end
  return write()
end

-- Deleted runs whose sessions nobody has told about for so long. (yields)
function Pass:forget_runs(tenant)
  local any, err = deletions_store.can_forget(self.db, tenant, self.before_ms)
  if any == nil then return nil, err end
  if not any then return true end
  if self.client then
    local seen, seen_err = see_sessions(self)
    if not seen then
      if errors.is(seen_err, "CANCELLED") then return nil, seen_err end
      log.info("retention.runtime_silent", { error = seen_err and seen_err.message })
      return true -- another time
    end
  end
  return self:delete_rows(tenant, "tombstones", deletions_store.forget)
end

-- (yields)
function Pass:of_tenant(tenant, is_enabled)
  local ok, err = true, nil
  if is_enabled then
    ok, err = self:delete_runs(tenant)
    if ok then ok, err = self:delete_rows(tenant, "audit", retention_store.delete_audit) end
    if ok then ok, err = self:delete_rows(tenant, "deliveries", retention_store.delete_deliveries) end
  end
  if ok then ok, err = self:forget_runs(tenant) end
  return ok, err
end

-- Deletes what deleted runs have left, a piece at a time. Several processes may do so at once. (yields)
local function purge(db, tenants, on_events)
  for _, tenant in ipairs(tenants) do
    while true do
      local row, err = deletions_store.unpurged(db, tenant)
      if row == nil then return nil, err end
      if not row then break end
      local n, purge_err = db_door.tx(db, function(tx) return deletions_store.purge(tx, tenant, row.id) end)
      if n == nil then return nil, purge_err end
      if n then on_events(n) end
      local slept, sleep_err = task.sleep(n and PAUSE_MS or 0)
      if not slept then return nil, sleep_err end
    end
  end
  return true
end

-- (yields)
local function run_pass(self, db, lock)
  local began = sys.mono_ms()
  local pass = setmetatable({ db = db, pid = lock.pid, metrics = self.metrics, batch_size = self.batch_size,
    client = self.client, before_ms = sys.now_ms() - self.ttl_days * DAY_MS, cutoffs = self:cutoffs(), told_at = began,
    counts = { runs = 0, events = 0, audit = 0, deliveries = 0, tombstones = 0 } }, Pass)
  local tenants, tenants_err = retention_store.tenants(db)
  if tenants == nil then return nil, tenants_err end
  for _, tenant in ipairs(tenants) do
    local ok, pass_err = pass:of_tenant(tenant, self.enabled)
    if not ok then return nil, pass_err end
  end
  local purged, purge_err = purge(db, tenants, function(n) pass:count("events", n) end)
  if not purged then return nil, purge_err end
  local counts = pass.counts
  counts.ms = math.floor(sys.mono_ms() - began)
  self.last = { at_ms = sys.now_ms(), counts = counts }
  if self.metrics then self.metrics.passed(counts.ms) end
  if self.enabled or counts.events > 0 or counts.tombstones > 0 then log.info("retention.done", counts) end
  return counts
end

-- (yields)
local function run_locked(self, db)
  local lock, err = retention_store.lock(db)
  if lock == nil then return nil, err end
  if not lock.locked then
    log.info("retention.skipped", { reason = "another process is at it" })
    return false
  end
  local counts, pass_err = run_pass(self, db, lock)
  if counts then retention_store.unlock(db) end
  return counts, pass_err
end

---Deletes everything that is too old, unless another process is at it. (yields)
---@return table|false|nil how much of each kind: { runs, events, audit, deliveries, tombstones, ms }; false: another
--- process is at it
---@return table|nil err
function Retention:pass()
  local db, err = retention_store.open(self.url)
  if db == nil then return nil, err end
  local ok, counts, pass_err = pcall(run_locked, self, db)
  task.shield(db.close, db)
  if not ok then error(counts, 0) end
  return counts, pass_err
end

---What a pass would delete now, whether passes are enabled or not; nothing is changed. (yields)
---@return macp.store.Due|nil due of all tenants together
---@return table|nil err
function Retention:forecast()
  local tenants, err = retention_store.tenants(self.db)
  if tenants == nil then return nil, err end
  local before_ms, cutoffs, total = sys.now_ms() - self.ttl_days * DAY_MS, self:cutoffs(), retention_store.none_due()
  for _, tenant in ipairs(tenants) do
    local ok
    ok, err = retention_store.add_due(self.db, tenant, cutoffs, before_ms, total)
    if not ok then return nil, err end
  end
  return total
end

---A run was deleted whose events are still there.
function Retention:wake() self.woken:signal() end

-- Waits until the next pass; clears away what deleted runs leave meanwhile. (yields)
local function wait_until(self, due_ms)
  while true do
    local left = due_ms - sys.mono_ms()
    if left <= 0 then return true end
    local woken, err = self.woken:wait(math.min(left, DAY_MS))
    if not woken and err.code ~= "TIMEOUT" then return nil, err end
    if woken then
      local tenants, tenants_err = retention_store.tenants(self.db)
      if tenants == nil then return nil, tenants_err end
      local done, purge_err = purge(self.db, tenants, function(n)
        if self.metrics then self.metrics.deleted("events", n) end
      end)
      if not done then return nil, purge_err end
    end
  end
end

---Works for ever: first after 10 s, then every so many hours. (yields)
function Retention:work(child)
  local due_ms = sys.mono_ms() + FIRST_MS
  while not child:stopping() do
    local waited, err = wait_until(self, due_ms)
    if not waited then return nil, err end
    local counts, pass_err = self:pass()
    if counts == nil then return nil, pass_err end
    due_ms = sys.mono_ms() + self.interval_hours * HOUR_MS
  end
  return true
end

return M
