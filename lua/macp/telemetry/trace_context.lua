-- W3C trace context: where a piece of work belongs, as headers `traceparent` and `tracestate` tell it between programs.
-- https://www.w3.org/TR/trace-context/

local crypto = require("host.crypto")

local MAX_STATE_BYTES = 512
local MAX_STATE_MEMBERS = 32

---@class macp.TraceContext
---@field trace_id string 32 hex digits
---@field span_id string 16 hex digits: the span that whoever gets this is a child of
---@field sampled boolean whether spans of the trace are recorded
---@field state string|nil tracestate, handed on as it came
---@field is_remote boolean|nil it came from outside

local M = {}

local function random_hex(bytes)
  local text
  repeat text = crypto.hex(crypto.random(bytes)) until text:find("[^0]")
  return text
end

---A trace id: 32 hex digits, never all zero.
function M.new_trace_id() return random_hex(16) end

---A span id: 16 hex digits, never all zero.
function M.new_span_id() return random_hex(8) end

local HEX = "[0-9a-f]"
local PATTERN = "^(" .. HEX:rep(2) .. ")%-(" .. HEX:rep(32) .. ")%-(" .. HEX:rep(16) .. ")%-(" .. HEX:rep(2) .. ")"

-- A tracestate that is within the limits, else nil: it is dropped then, the parent stays good.
local function checked_state(text)
  if text == nil or text == "" or #text > MAX_STATE_BYTES or text:find("[^\32-\126\t]") then return nil end
  local _, commas = text:gsub(",", "")
  return commas < MAX_STATE_MEMBERS and text or nil
end

---The context that headers tell.
---@param traceparent string|nil
---@param tracestate string|nil
---@return macp.TraceContext|nil nil when there is none or it is not one: then a new trace begins
function M.parse(traceparent, tracestate)
  if traceparent == nil then return nil end
  local version, trace_id, span_id, flags = traceparent:match(PATTERN)
  if version == nil or version == "ff" or not trace_id:find("[^0]") or not span_id:find("[^0]") then return nil end
  -- Later versions may say more after another dash; this one may not.
  if #traceparent > 55 and (version == "00" or traceparent:sub(56, 56) ~= "-") then return nil end
  return {
    trace_id = trace_id, span_id = span_id, sampled = tonumber(flags, 16) % 2 == 1, state = checked_state(tracestate),
    is_remote = true,
  }
end

---The value of `traceparent`.
---@param context macp.TraceContext
function M.format(context)
  return "00-" .. context.trace_id .. "-" .. context.span_id .. (context.sampled and "-01" or "-00")
end

---A copy of headers (or metadata) that hands the context on; the same table when there is none.
---@param headers table<string, string>
---@param context macp.TraceContext|nil
function M.inject(headers, context)
  if context == nil then return headers end
  local out = {}
  for name, value in pairs(headers) do out[name] = value end
  out.traceparent, out.tracestate = M.format(context), context.state
  return out
end

return M
