-- The worker that delivers: claims due rows for all webhooks, attempts them side by side, and stores the results with
-- the next claim in one transaction. Several processes may do so at once. A delivery is made at least once: what was
-- claimed by a process that died is due again when its claim ends.
--
-- Bounds: CLAIMED rows in memory, `total` attempts at once, `concurrency` of them per webhook, one while it fails.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local backoff = require("macp.core.backoff")
local repeats = require("macp.core.repeats")
local fault = require("macp.core.fault")
local attempt = require("macp.plane.webhooks.attempt")
local retry = require("macp.plane.webhooks.retry")

local queue_store = require("macp.store.webhook_queue")

local repeated = repeats.new({ lines = 3 }) -- failures that come again and again

local CLAIMED = 256
local AHEAD = 16 -- rows claimed per attempt at once, for receivers that answer
local POLL_MS = 1000
local MARGIN_MS = 5000 -- of a claim, for waiting and for storing the result
local FORGET_MS = 120000

---@class macp.plane.WebhookWorker
local Worker = {}
Worker.__index = Worker

local M = {}

---@param opts { db: table, name: string, metrics: table|nil, timeout_ms: integer, concurrency: integer,
---  total: integer, allow_private: boolean, allow_hosts: string[], now_ms: (fun(): integer)|nil, tracer: macp.Tracer|nil }
--- name: of this process, unique; now_ms: the clock of schedules, injected by tests
function M.new(opts)
  local self = setmetatable({
    db = opts.db, name = opts.name, metrics = opts.metrics, concurrency = opts.concurrency, total = opts.total,
    -- Two attempts fit into a claim: the one before it in the queue, and its own.
    claim_ms = 2 * opts.timeout_ms + MARGIN_MS, start_ms = opts.timeout_ms + MARGIN_MS / 2,
    attempt = { timeout_ms = opts.timeout_ms, allow_private = opts.allow_private, allow_hosts = opts.allow_hosts,
      now_ms = opts.now_ms or sys.now_ms, tracer = opts.tracer },
    hooks = {}, held = 0, running = 0, tasks = {}, results = {}, dropped = {}, changed = task.cond(), woken = true,
    swept_ms = sys.mono_ms(), is_working = false, stopping = false,
  }, Worker)
  self.now_ms = self.attempt.now_ms
  return self
end

---Looks for due rows now instead of at the next poll.
function Worker:wake()
  self.woken = true
  self.changed:signal()
end

-- What is known of a webhook while rows of it are held, and of failing ones.
local function hook_of(self, id)
  local hook = self.hooks[id]
  if hook == nil then
    hook = { id = id, queue = {}, first = 1, last = 0, running = 0, held = 0, failures = 0, answered = false }
    self.hooks[id] = hook
  end
  return hook
end

local function limit_of(self, hook)
  if hook.failures > 0 or hook.ordered then return 1 end
  return self.concurrency
end

local function let_go(self, hook)
  self.held, hook.held = self.held - 1, hook.held - 1
end

local function result_of(row, outcome, now_ms)
  local attempts = row.attempts + 1
  local delay = not outcome.ok and not outcome.is_gone and retry.delay_ms(attempts, outcome.asked_ms) or nil
  return {
    tenant = row.tenant, id = row.id, webhook_id = row.webhook_id, response_status = outcome.status,
    status = outcome.ok and "delivered" or delay and "pending" or "failed", next_ms = now_ms + (delay or 0),
    error = outcome.error, entry = attempt.entry(outcome),
    gone = outcome.is_gone and "the receiver answered 410" or nil,
  }
end

local pump

-- One attempt in a task of its own. (yields)
local function deliver(self, hook, row)
  local ok, outcome, err = pcall(attempt.post, self.attempt, row)
  if not ok then outcome, err = nil, outcome end
  self.tasks[row] = nil
  self.running, hook.running = self.running - 1, hook.running - 1
  fault("webhook.attempted")
  if outcome then
    hook.answered, hook.failures = outcome.ok, outcome.ok and 0 or hook.failures + 1
    local result = result_of(row, outcome, self.now_ms())
    self.results[#self.results + 1] = result
    if self.metrics then self.metrics.on_attempt(outcome) end
    if result.status == "failed" then
      repeated:tell("warn", "webhook.failed", row.webhook_id, { webhook_id = row.webhook_id,
        delivery_id = row.id, attempts = row.attempts + 1,
        status = outcome.status, error = outcome.error })
    end
  else
    if type(err) ~= "table" or err.code ~= "CANCELLED" then
      log.error("webhook.attempt_raised", { delivery_id = row.id,
        error = type(err) == "table" and err.message or tostring(err) })
    end
    self.dropped[#self.dropped + 1] = row
  end
  let_go(self, hook)
  pump(self, hook)
  self.changed:signal()
end

-- Starts what may run of one webhook. Rows whose claim has become too short go back without an attempt.
pump = function(self, hook)
  while not self.stopping and hook.first <= hook.last and hook.running < limit_of(self, hook)
    and self.running < self.total do
    local row = hook.queue[hook.first]
    hook.queue[hook.first] = nil
    hook.first = hook.first + 1
    if sys.mono_ms() - row.claimed_ms > self.start_ms then
      self.dropped[#self.dropped + 1] = row
      let_go(self, hook)
    else
      self.running, hook.running = self.running + 1, hook.running + 1
      self.tasks[row] = task.spawn(deliver, self, hook, row)
    end
  end
end

local function pump_all(self)
  for _, hook in pairs(self.hooks) do pump(self, hook) end
end

-- Room of the webhooks that are known here: many rows where they are answered, few where they are not.
local function describe_claim(self, now_ms)
  local limit = CLAIMED - self.held
  if limit <= 0 or self.stopping then return nil end
  local held = {}
  for id, hook in pairs(self.hooks) do
    local wanted = limit_of(self, hook)
    if wanted > 1 and hook.answered then wanted = wanted * AHEAD end
    held[#held + 1] = { webhook_id = id, room = math.max(0, wanted - hook.held) }
  end
  return { limit = limit, room = self.concurrency, held = held, until_ms = now_ms + self.claim_ms }
end

local function accept(self, rows, claimed_ms)
  local touched = {}
  for _, row in ipairs(rows) do
    if self.stopping and not row.waits then
      self.dropped[#self.dropped + 1] = row
    elseif not row.waits then
      local hook = hook_of(self, row.webhook_id)
      row.claimed_ms, row.body, hook.ordered = claimed_ms, tostring(row.body), row.ordered
      hook.last = hook.last + 1
      hook.queue[hook.last] = row
      hook.held, self.held, hook.used_ms = hook.held + 1, self.held + 1, claimed_ms
      touched[hook] = true
    end
  end
  for hook in pairs(touched) do pump(self, hook) end
end

-- Forgets webhooks that have had nothing for a while, so that deleted ones do not stay.
local function forget_idle(self)
  local now = sys.mono_ms()
  if now - self.swept_ms < FORGET_MS then return end
  self.swept_ms = now
  for id, hook in pairs(self.hooks) do
    if hook.held == 0 and now - hook.used_ms > FORGET_MS then self.hooks[id] = nil end
  end
end

-- One exchange with the database; nil, err when it failed: everything is kept for the next. (yields)
local function exchange(self)
  local now_ms, began = self.now_ms(), sys.mono_ms()
  local results, dropped = self.results, self.dropped
  self.results, self.dropped, self.woken = {}, {}, false
  local released, err = queue_store.release(self.db, self.name, now_ms, dropped)
  local rows
  if released then
    dropped = {}
    fault("webhook.before_exchange")
    rows, err = queue_store.exchange(self.db, self.name, now_ms, results, describe_claim(self, now_ms))
    fault("webhook.after_exchange")
  end
  if rows == nil then
    for _, result in ipairs(self.results) do results[#results + 1] = result end
    for _, row in ipairs(self.dropped) do dropped[#dropped + 1] = row end
    self.results, self.dropped, self.woken = results, dropped, true
    return nil, err
  end
  if self.metrics then
    for _, result in ipairs(results) do self.metrics.on_finished(result.status) end
  end
  accept(self, rows, began)
  pump_all(self)
  return rows
end

-- Waits until there is something to tell or to ask for. (yields)
local function rest(self, found)
  if found > 0 and self.held < CLAIMED then return true end
  while not (self.woken or #self.results > 0 or #self.dropped > 0 or self.stopping) do
    local ok, err = self.changed:wait(POLL_MS)
    if not ok then
      if err.code ~= "TIMEOUT" then return nil, err end
      return true
    end
  end
  return true
end

-- (yields)
local function run(self, child)
  local delays = backoff.new({ base_ms = 100, max_ms = 5000 })
  while not self.stopping and not (child and child:stopping()) do
    local rows, err = exchange(self)
    if rows == nil then
      if err.code == "CANCELLED" then return nil, err end
      repeated:tell("warn", "webhook.exchange_failed", err.message, { error = err.message })
      local slept, sleep_err = task.sleep(delays:next())
      if not slept then return nil, sleep_err end
    else
      delays:reset()
      forget_idle(self)
      local ok, rest_err = rest(self, #rows)
      if not ok then return nil, rest_err end
    end
  end
  return true
end

---Delivers until stopped. (yields)
---@param child macp.Child|nil
function Worker:work(child)
  self.is_working = true
  local ok, err = run(self, child)
  self.is_working = false
  self.changed:broadcast()
  return ok, err
end

---Stops claiming and starting attempts.
function Worker:stop()
  self.stopping = true
  self.changed:broadcast()
end

---Stops claiming, lets attempts in flight end within ms, stores what came of them and gives the rest back. (yields)
---@param ms integer
function Worker:drain(ms)
  self:stop()
  local deadline = sys.mono_ms() + ms
  while (self.running > 0 or self.is_working) and sys.mono_ms() < deadline do
    self.changed:wait(math.max(1, deadline - sys.mono_ms()))
  end
  for _, running in pairs(self.tasks) do running:cancel() end
  for _ = 1, 50 do
    if self.running == 0 then break end
    task.sleep(10)
  end
  for _, hook in pairs(self.hooks) do
    for at = hook.first, hook.last do self.dropped[#self.dropped + 1] = hook.queue[at] end
    hook.queue, hook.first, hook.last = {}, 1, 0
  end
  if #self.results + #self.dropped == 0 then return true end
  local rows, err = exchange(self)
  if rows == nil then log.warn("webhook.drain_incomplete", { error = err.message }) end
  return rows ~= nil or nil, err
end

return M
