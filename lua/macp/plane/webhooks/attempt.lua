-- One attempt: posts a body to a receiver and tells what came of it. Redirects are not followed; the address is checked
-- where the connection is made, so that a name cannot point elsewhere meanwhile. What the receiver says is read in part.

local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")
local trace_context = require("macp.telemetry.trace_context")
local tracer = require("macp.telemetry.tracer")
local time = require("macp.core.time")
local run_trace = require("macp.plane.run_trace")
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

-- The attempt as a span of the run's trace; the receiver is told to go on with it.
local function trace_attempt(opts, delivery)
  local context = run_trace.read(delivery.trace_context)
  local span = opts.tracer and opts.tracer:child("webhook.deliver", context, {
    run_id = delivery.run_id, ["macp.webhook_id"] = delivery.webhook_id, ["macp.delivery_id"] = delivery.id,
    ["macp.event"] = delivery.event, ["macp.attempt"] = (delivery.attempts or 0) + 1,
    ["http.request.method"] = "POST",
  }, tracer.CLIENT)
  task.set_scope({ span or context, run_id = delivery.run_id, trace_id = context and context.trace_id,
    delivery_id = delivery.id })
  return span, span or context
end

local function end_span(span, outcome)
  if span == nil then return end
  span.attributes["http.response.status_code"] = outcome.status
  if not outcome.ok then span:set_status(tracer.ERROR, outcome.error) end
  span:finish()
end

---@param opts { timeout_ms: integer, allow_private: boolean, allow_hosts: string[], now_ms: (fun(): integer),
---  tracer: macp.Tracer|nil }
---@param delivery { id: string, event: string, body: string, url: string, secret: string,
---  previous_secret: string|nil, run_id: string|nil, trace_context: string|nil }
---@return { ok: boolean, status: integer|nil, error: string|nil, snippet: string|nil, asked_ms: integer|nil,
---  is_gone: boolean, ms: number, at_ms: integer }|nil outcome
---@return table|nil err CANCELLED: the attempt was broken off, nothing is known
---(yields)
function M.post(opts, delivery)
  local at_ms, began = opts.now_ms(), sys.mono_ms()
  local headers = signature.headers(delivery, math.floor(at_ms / 1000), delivery.body)
  headers["content-type"] = "application/json"
  headers["x-macp-event"], headers["x-macp-delivery"] = delivery.event, delivery.id
  local span, context
  if delivery.run_id then span, context = trace_attempt(opts, delivery) end
  local reply, err = fetch.open({
    url = delivery.url, method = "POST", headers = trace_context.inject(headers, context), body = delivery.body,
    timeout_ms = opts.timeout_ms, guard = opts.allow_private and "any" or "public", allow_hosts = opts.allow_hosts,
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
  end_span(span, outcome)
  return outcome
end

---An attempt as the log keeps it, JSON text.
function M.entry(outcome)
  return json.encode({ at = time.iso(outcome.at_ms), status = outcome.status, error = outcome.error,
    durationMs = math.floor(outcome.ms), response = outcome.snippet })
end

return M
