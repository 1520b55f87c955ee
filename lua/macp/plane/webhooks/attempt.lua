-- One attempt: posts a body to a receiver and tells what came of it. Redirects are not followed; the address is checked
-- where the connection is made, so that a name cannot point elsewhere meanwhile. What the receiver says is read in part.

local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")
local trace_context = require("macp.telemetry.trace_context")
local tracer = require("macp.telemetry.tracer")
local time = require("macp.core.time")
local partial_reply = require("macp.plane.partial_reply")
local run_trace = require("macp.plane.run_trace")
local retry = require("macp.plane.webhooks.retry")
local signature = require("macp.plane.webhooks.signature")
local text = require("macp.plane.text")

local SNIPPET = 512
local GONE = 410

local M = {}

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
    local said = partial_reply.take(reply, opts.timeout_ms - (sys.mono_ms() - began), SNIPPET)
    outcome.status, outcome.snippet = status, (said or "") ~= "" and text.printable(said) or nil
    outcome.asked_ms = retry.asked_ms(reply.headers["retry-after"], at_ms)
    outcome.ok = status >= 200 and status <= 299
    outcome.is_gone = status == GONE
    if not outcome.ok then outcome.error = "webhook returned " .. status end
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
