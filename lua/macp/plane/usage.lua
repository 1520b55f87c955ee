-- Language model usage inside payloads: where agents put it, and the one form it is told in.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local amounts = require("macp.plane.amounts")

local SIGNAL_TYPE = "llm.call.completed"

local M = {}

local function object(value)
  return type(value) == "table" and not json.is_array(value) and value or nil
end

local count = amounts.count

local function text(value)
  return type(value) == "string" and value ~= "" and value or nil
end

local function latency(found)
  return amounts.measured(found.latencyMs or found.latency_ms)
end

-- The object and the tokenUsage inside it, the latter's counts first.
local function merged(outer)
  local inner = object(outer.tokenUsage)
  if inner == nil then return outer end
  local out = {}
  for key, value in pairs(outer) do out[key] = value end
  for key, value in pairs(inner) do out[key] = value end
  return out
end

-- What the agent says it cost, else what the price list says.
local function cost_of(found, prices, prompt, completion)
  local told = amounts.measured(found.estimatedCostUsd)
  if told then return told end
  if prices == nil then return nil end
  return prices:estimate(text(found.model), prompt, completion)
end

local function usage_of(candidate, prices)
  local found = merged(candidate)
  local prompt, completion = count(found.promptTokens), count(found.completionTokens)
  if prompt == 0 then prompt = count(found.prompt_tokens) end
  if completion == 0 then completion = count(found.completion_tokens) end
  if prompt == 0 and completion == 0 and not (text(found.model) or found.prompt or found.response) then return nil end
  local cost, price_date = cost_of(found, prices, prompt, completion)
  return {
    promptTokens = prompt, completionTokens = completion, totalTokens = prompt + completion, model = text(found.model),
    latencyMs = latency(found), prompt = found.prompt, response = found.response,
    provider = text(found.provider), artifactId = text(found.artifactId), estimatedCostUsd = cost,
    priceListDate = price_date,
  }
end

---The JSON object inside a signal's data, nil when it is something else.
---@param payload table decoded SignalPayload (data as base64)
function M.signal_data(payload)
  if type(payload.data) ~= "string" then return nil end
  local bytes = crypto.base64_decode(payload.data)
  if bytes == nil or bytes:byte(1) ~= 123 then return nil end
  return object(json.decode(bytes))
end

---Usage told by a payload, nil when there is none.
---@param payload table decoded
---@param signal_data table|nil what M.signal_data found
---@param prices macp.plane.Prices|nil
---@return table|nil
function M.find(payload, signal_data, prices)
  if payload.encoding == "json" and object(payload.json) then payload = payload.json end
  local metadata = object(payload.metadata) or {}
  local candidates = { payload.llmCall or false, metadata.llmCall or false, payload.tokenUsage or false,
    metadata.tokenUsage or false, payload.signalType == SIGNAL_TYPE and signal_data or false }
  for _, candidate in ipairs(candidates) do
    local found = object(candidate) and usage_of(candidate, prices)
    if found then return found end
  end
  return nil
end

---true when a payload's text could hold usage: cheap, asked for every envelope.
function M.is_likely(payload_json)
  return payload_json:find('okenUsage"', 1, true) ~= nil or payload_json:find('llmCall"', 1, true) ~= nil
end

return M
