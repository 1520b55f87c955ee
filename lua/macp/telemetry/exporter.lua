-- Sends finished spans to a collector: OTLP over HTTP, in batches, from a queue that never grows beyond its bound.
-- Whoever adds a span does not wait for anything; what finds no room is counted and gone.

local fetch = require("host.fetch")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local backoff = require("macp.core.backoff")
local otlp = require("macp.telemetry.otlp")

local ATTEMPTS = 5 -- of one batch, when the collector is away or asks for patience
local BASE_MS, MAX_MS = 1000, 30000
local MAX_WAIT_S = 300 -- that a collector may ask for
local MAX_ANSWER = 65536
local COMPLAIN_MS = 60000

-- Answers after which the same request may succeed.
local RETRY = { [429] = true, [502] = true, [503] = true, [504] = true }

---@class macp.telemetry.Exporter
local Exporter = {}
Exporter.__index = Exporter

local M = {}

---@param opts { url: string, headers: table<string, string>, timeout_ms: integer, max_queue: integer,
---  max_batch: integer, delay_ms: integer, otlp: macp.telemetry.Otlp, metrics: macp.Metrics, backoff: table|nil }
--- backoff: { base_ms, max_ms }, shorter in specs
---@return macp.telemetry.Exporter
function M.new(opts)
  local spans = opts.metrics:counter("macp_otlp_spans_total",
    "Spans by what became of them: exported, failed (the collector did not take them), dropped (no room).",
    { "result" })
  local self = setmetatable({
    url = opts.url, headers = { ["content-type"] = otlp.CONTENT_TYPE }, timeout_ms = opts.timeout_ms,
    max_queue = opts.max_queue, max_batch = math.min(opts.max_batch, opts.max_queue), delay_ms = opts.delay_ms,
    otlp = opts.otlp, backoff = opts.backoff or { base_ms = BASE_MS, max_ms = MAX_MS }, queue = {}, count = 0,
    filled = task.cond(), stopping = false, complained_ms = nil, is_failing = false,
    exported = spans:labels("exported"), failed = spans:labels("failed"), dropped = spans:labels("dropped"),
    length = opts.metrics:gauge("macp_otlp_queue_spans", "Spans that wait to be sent."):labels(),
  }, Exporter)
  for name, value in pairs(opts.headers) do self.headers[name:lower()] = value end
  return self
end

---Takes a finished span. Never waits.
function Exporter:add(span)
  local count = self.count
  if count >= self.max_queue then
    self.dropped:inc()
    return
  end
  count = count + 1
  self.queue[count], self.count = span, count
  self.length:set(count)
  if count == 1 or count == self.max_batch then self.filled:signal() end
end

-- The oldest spans.
local function take(self)
  local queue, size = self.queue, math.min(self.count, self.max_batch)
  local batch, rest = {}, {}
  for i = 1, size do batch[i] = queue[i] end
  for i = size + 1, self.count do rest[i - size] = queue[i] end
  self.queue, self.count = rest, self.count - size
  self.length:set(self.count)
  return batch
end

-- Seconds that an answer asks to wait, in ms; dates are not worth understanding here.
local function asked_ms(reply)
  local seconds = tonumber(reply.headers["retry-after"] or "")
  return seconds and seconds >= 0 and math.min(seconds, MAX_WAIT_S) * 1000 or nil
end

-- One request: true and how many spans were refused; or nil, the reason, and after how long to try again (false:
-- never). (yields)
local function post(self, body)
  local reply, err = fetch.request({
    url = self.url, method = "POST", headers = self.headers, body = body, timeout_ms = self.timeout_ms,
    max_body_bytes = MAX_ANSWER,
  })
  if reply == nil then return nil, err.message, err.code ~= "CANCELLED" and 0 end
  if reply.status >= 200 and reply.status <= 299 then
    local rejected, reason = self.otlp:rejected(reply.body and tostring(reply.body))
    return true, rejected, reason
  end
  return nil, "the collector answered " .. reply.status, RETRY[reply.status] and (asked_ms(reply) or 0)
end

-- One line when it begins to fail, one per minute while it does, and one when it is over.
local function complain(self, count, reason)
  local now = sys.mono_ms()
  self.is_failing = true
  if self.complained_ms and now - self.complained_ms < COMPLAIN_MS then return end
  self.complained_ms = now
  log.warn("otlp.export_failed", { url = self.url, spans = count, error = reason })
end

local function succeeded(self, count, rejected, reason)
  self.exported:inc(count - rejected)
  if rejected > 0 then
    self.failed:inc(rejected)
    complain(self, rejected, reason or "the collector refused some of them")
  elseif self.is_failing then
    self.is_failing, self.complained_ms = false, nil
    log.info("otlp.export_recovered", { url = self.url })
  end
end

-- Sends one batch, again and again if it may help; at the end of the program once. (yields)
local function send(self, batch)
  local body, problem = self.otlp:encode(batch)
  if body == nil then
    self.failed:inc(#batch)
    return complain(self, #batch, problem.message)
  end
  local delays = backoff.new(self.backoff)
  for attempt = 1, ATTEMPTS do
    local ok, value, more = post(self, body)
    if ok then return succeeded(self, #batch, value, more) end
    complain(self, #batch, value)
    if not more or attempt == ATTEMPTS or self.stopping then break end
    if not task.sleep(math.max(delays:next(), more)) or self.stopping then break end
  end
  self.failed:inc(#batch)
end

-- Waits until a batch is due: it is full, or the first span has waited long enough. (yields)
local function await(self)
  while self.count == 0 and not self.stopping do
    local ok, err = self.filled:wait()
    if not ok then return nil, err end
  end
  local deadline = sys.mono_ms() + self.delay_ms
  while self.count < self.max_batch and not self.stopping do
    local left = deadline - sys.mono_ms()
    if left <= 0 then return true end
    local ok, err = self.filled:wait(left)
    if not ok and err.code == "CANCELLED" then return nil, err end
  end
  return true
end

---Sends until `close`. (yields)
function Exporter:run()
  while not self.stopping do
    local ok = await(self)
    if not ok then return end
    if self.stopping then break end
    send(self, take(self))
  end
end

---Starts sending.
function Exporter:start()
  self.sender = task.spawn(function() self:run() end)
end

---Sends what is left, within ms, and ends. (yields)
---@param ms number
function Exporter:close(ms)
  if self.stopping then return end
  self.stopping = true
  self.filled:broadcast()
  local deadline = sys.mono_ms() + ms
  if self.sender then
    local ended = task.with_deadline(ms, function() return self.sender:join() == nil end)
    if not ended then self.sender:cancel() end
  end
  while self.count > 0 do
    local left, batch = deadline - sys.mono_ms(), take(self)
    if left <= 0 then
      self.dropped:inc(#batch)
    else
      task.with_deadline(left, send, self, batch)
    end
  end
end

return M
