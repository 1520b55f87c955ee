-- Metrics of this process: counters, gauges and histograms with a bounded number of label sets.
-- Hot paths resolve a series once, `local accepted = family:labels("send")`, and call `accepted:inc()` per event.

local DEFAULT_MAX_SERIES = 1000
local OVERFLOW = "_overflow"
local DEFAULT_BUCKETS = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }

local M = {}

---@class macp.Series one label set of a family
local Counter, Gauge, Histogram = {}, {}, {}
Counter.__index, Gauge.__index, Histogram.__index = Counter, Gauge, Histogram

function Counter:inc(n)
  self.value = self.value + (n or 1)
end

function Gauge:set(value)
  self.value = value
end

function Gauge:inc(n)
  self.value = self.value + (n or 1)
end

function Gauge:dec(n)
  self.value = self.value - (n or 1)
end

function Histogram:observe(value)
  self.sum = self.sum + value
  self.count = self.count + 1
  local bounds, counts = self.bounds, self.counts
  for i = 1, #bounds do
    if value <= bounds[i] then
      counts[i] = counts[i] + 1
      return
    end
  end
end

local SERIES = { counter = Counter, gauge = Gauge, histogram = Histogram }

---@class macp.Family a metric with its series
local Family = {}
Family.__index = Family

local function new_series(family, values)
  local series = { label_values = values, value = 0 }
  if family.type == "histogram" then
    series = { label_values = values, sum = 0, count = 0, bounds = family.buckets, counts = {} }
    for i = 1, #family.buckets do series.counts[i] = 0 end
  end
  family.series[#family.series + 1] = setmetatable(series, SERIES[family.type])
  return series
end

-- Walks (and grows) the tree of label values; beyond the limit everything lands in one series named `_overflow`.
local function find_series(family, values)
  local node, count = family.root, #family.label_names
  for i = 1, count - 1 do
    local key = tostring(values[i])
    local child = node[key]
    if child == nil then
      if #family.series >= family.max_series then return family:overflow() end
      child = {}
      node[key] = child
    end
    node = child
  end
  local key = tostring(values[count])
  local series = node[key]
  if series == nil then
    if #family.series >= family.max_series then return family:overflow() end
    local texts = {}
    for i = 1, count do texts[i] = tostring(values[i]) end
    series = new_series(family, texts)
    node[key] = series
  end
  return series
end

function Family:overflow()
  if self.overflowed == nil then
    local values = {}
    for i = 1, #self.label_names do values[i] = OVERFLOW end
    self.overflowed = new_series(self, values)
  end
  return self.overflowed
end

---The series with these label values, made on first use.
function Family:labels(...)
  local count = select("#", ...)
  if count ~= #self.label_names then
    error(string.format("%s takes %d labels, not %d", self.name, #self.label_names, count), 2)
  end
  if count == 0 then return self.only end
  return find_series(self, { ... })
end

-- Splits (label values..., n): the number is what follows the labels.
local function split(family, ...)
  local count = #family.label_names
  if count == 0 then return family.only, (...) end
  local values = { ... }
  for i = 1, count do
    if values[i] == nil then error(family.name .. " misses label " .. family.label_names[i], 3) end
  end
  return find_series(family, values), values[count + 1]
end

function Family:inc(...)
  local series, n = split(self, ...)
  series:inc(n)
end

function Family:dec(...)
  local series, n = split(self, ...)
  series:dec(n)
end

function Family:set(...)
  local series, value = split(self, ...)
  series:set(value)
end

function Family:observe(...)
  local series, value = split(self, ...)
  series:observe(value)
end

---@class macp.Metrics
local Registry = {}
Registry.__index = Registry

local function register(registry, kind, name, help, label_names, opts)
  local existing = registry.families[name]
  if existing then
    if existing.type ~= kind then error(name .. " is already a " .. existing.type, 3) end
    return existing
  end
  assert(name:find("^[%a_:][%w_:]*$"), "not a metric name: " .. name)
  local family = setmetatable({
    name = name, help = help, type = kind, label_names = label_names or {}, series = {}, root = {},
    buckets = opts.buckets, max_series = opts.max_series or DEFAULT_MAX_SERIES,
  }, Family)
  if #family.label_names == 0 then family.only = new_series(family, {}) end
  registry.families[name] = family
  registry.order[#registry.order + 1] = name
  return family
end

---A value that only grows. A name that exists already gives the existing family.
---@param name string
---@param help string one sentence
---@param label_names string[]|nil
---@param opts { max_series: integer|nil }|nil
function Registry:counter(name, help, label_names, opts)
  return register(self, "counter", name, help, label_names, opts or {})
end

---A value that goes up and down.
function Registry:gauge(name, help, label_names, opts)
  return register(self, "gauge", name, help, label_names, opts or {})
end

---A distribution; buckets are upper bounds in rising order.
function Registry:histogram(name, help, label_names, buckets, opts)
  opts = opts or {}
  return register(self, "histogram", name, help, label_names,
    { buckets = buckets or DEFAULT_BUCKETS, max_series = opts.max_series })
end

---fn() runs before each rendering, to set gauges that are cheaper to ask for than to keep up to date.
function Registry:on_render(fn)
  self.collectors[#self.collectors + 1] = fn
end

---Prometheus text of everything.
function Registry:render()
  for _, collect in ipairs(self.collectors) do collect() end
  return require("macp.telemetry.prometheus").render(self)
end

---@return macp.Metrics
function M.new()
  return setmetatable({ families = {}, order = {}, collectors = {} }, Registry)
end

return M
