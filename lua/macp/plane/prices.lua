-- What language model calls cost, by the operator's price list: a JSON file that says since when it holds. Without a
-- list nothing is estimated: no price is better than an invented one.
--
--   { "date": "2026-01-31", "currency": "USD", "perTokens": 1000000,
--     "models": { "some-model": { "prompt": 2.5, "completion": 10 } },
--     "default": { "prompt": 1, "completion": 3 } }
--
-- A model is found under its own name or the longest name it starts with ("some-model-2026-01" has the price of
-- "some-model"). What is not found, or not named, has the default, if there is one, else no price.

local log = require("host.log")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local watched_file = require("macp.core.watched_file")

local MAX_BYTES = 1048576
local MAX_TOLD = 100 -- unknown models that are logged, each once

local FIELDS = { date = true, currency = true, perTokens = true, models = true, default = true, comment = true }
local RATE_FIELDS = { prompt = true, completion = true }

---@class macp.plane.Prices
---@field date string|nil since when the list in use holds; nil: there is none
---@field rejected string|nil what is wrong with the file as it is now
local Prices = {}
Prices.__index = Prices

local M = {}

local function is_object(value) return type(value) == "table" and not json.is_array(value) end

local function unknown_field(object, known)
  for name in pairs(object) do
    if not known[name] then return name end
  end
  return nil
end

local function is_amount(value) return type(value) == "number" and value >= 0 and value < math.huge end

local function parse_rate(where, rate, per_tokens)
  if not is_object(rate) then return nil, where .. " must be an object with prompt and completion" end
  local stray = unknown_field(rate, RATE_FIELDS)
  if stray then return nil, where .. " has the unknown field " .. stray end
  for _, field in ipairs({ "prompt", "completion" }) do
    if not is_amount(rate[field]) then return nil, where .. "." .. field .. " must be a number that is not negative" end
  end
  return { rate.prompt / per_tokens, rate.completion / per_tokens }
end

local function check_head(list)
  local stray = unknown_field(list, FIELDS)
  if stray then return nil, "has the unknown field " .. stray end
  if type(list.date) ~= "string" or not list.date:find("^%d%d%d%d%-%d%d%-%d%d$") then
    return nil, "date must be a day like 2026-01-31"
  end
  if list.currency ~= "USD" then return nil, 'currency must be "USD": costs are told in it' end
  if not is_amount(list.perTokens) or list.perTokens < 1 then
    return nil, "perTokens must be the number of tokens that the prices are for, like 1000000"
  end
  if not is_object(list.models) then return nil, "models must be an object of model names" end
  return true
end

---Reads a price list.
---@param text string JSON
---@return { date: string, rates: table<string, number[]>, default: number[]|nil }|nil USD per token, for prompt and
--- completion
---@return string|nil reason what is wrong with it and where
function M.parse(text)
  local list, err = json.decode(text)
  if list == nil then return nil, "is not JSON: " .. tostring(err and err.message or err) end
  if not is_object(list) then return nil, "must be a JSON object" end
  local ok, reason = check_head(list)
  if not ok then return nil, reason end
  local rates = {}
  for name, rate in pairs(list.models) do
    rates[name], reason = parse_rate("models." .. name, rate, list.perTokens)
    if reason then return nil, reason end
  end
  local default
  if list.default ~= nil then
    default, reason = parse_rate("default", list.default, list.perTokens)
    if reason then return nil, reason end
  end
  return { date = list.date, rates = rates, default = default }
end

---A list nobody has filled.
---@return macp.plane.Prices
function M.none()
  return setmetatable({ date = nil, rates = {}, told = {}, told_count = 0 }, Prices)
end

---Puts a list into use.
---@param list { date: string, rates: table, default: number[]|nil } of M.parse
function Prices:use(list)
  self.date, self.rates, self.default, self.rejected = list.date, list.rates, list.default, nil
  self.told, self.told_count = {}, 0
end

---Reads the list and follows its changes; one that cannot be read later on leaves the last good one in use. (yields)
---@param path string|nil nil: no list
---@return macp.plane.Prices|nil
---@return macp.Error|nil
function M.open(path)
  local self = M.none()
  if path == nil then return self end
  self.file = watched_file.new({ path = path, max_bytes = MAX_BYTES })
  local text, err = self.file:read()
  local list, reason
  if text then list, reason = M.parse(text) end
  if list == nil then
    local problem = string.format("MACP_MODEL_COSTS_FILE: %s: %s", path, reason or err.message)
    return nil, errors.new("VALIDATION_ERROR", nil, problem)
  end
  self:use(list)
  self.file:watch(function(changed, read_err)
    local newer, why
    if changed then newer, why = M.parse(changed) end
    if newer then
      self:use(newer)
      log.info("prices.loaded", { path = path, date = newer.date })
    else
      self.rejected = why or read_err.message
      log.warn("prices.rejected", { path = path, error = self.rejected, in_use = self.date })
    end
  end)
  return self
end

local function rate_of(rates, model)
  if rates[model] then return rates[model] end
  local best, best_length = nil, 0
  for name, rate in pairs(rates) do
    if #name > best_length and model:sub(1, #name) == name then best, best_length = rate, #name end
  end
  return best
end

local function tell_unknown(self, model)
  if self.date == nil or self.told[model] or self.told_count >= MAX_TOLD then return end
  self.told[model], self.told_count = true, self.told_count + 1
  log.warn("prices.unknown_model", { model = model:sub(1, 100), list = self.date })
end

---The price of a call, nil when it is not known.
---@param model string|nil
---@param prompt_tokens number
---@param completion_tokens number
---@return number|nil usd
---@return string|nil date of the list it comes from
function Prices:estimate(model, prompt_tokens, completion_tokens)
  local rate = model and rate_of(self.rates, model) or self.default
  if rate == nil then
    if model then tell_unknown(self, model) end
    return nil
  end
  return prompt_tokens * rate[1] + completion_tokens * rate[2], self.date
end

---Ends the following of the file. (yields)
function Prices:close()
  if self.file then self.file:close() end
end

return M
