-- Tracing as the settings want it: off, or a tracer with an exporter behind it.

local sys = require("host.sys")

local exporter = require("macp.telemetry.exporter")
local otlp = require("macp.telemetry.otlp")
local sampler = require("macp.telemetry.sampler")
local tracer = require("macp.telemetry.tracer")

local DEFAULT_ENDPOINT = "http://localhost:4318"
local PATH = "/v1/traces"
local LIBRARY = "macp-control-plane"

local M = {}

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- { "a=b%20c" } -> { a = "b c" }
local function pairs_of(items)
  local found = {}
  for _, item in ipairs(items) do
    local name, value = item:match("^([^=%s]+)%s*=%s*(.*)$")
    if name then found[name] = unescape(value) end
  end
  return found
end

local function resource_of(cfg)
  local resource = pairs_of(cfg.resource_attributes)
  resource["service.name"] = cfg.service_name
  resource["service.version"] = sys.version
  resource["service.instance.id"] = resource["service.instance.id"] or tostring(sys.pid())
  resource["telemetry.sdk.name"], resource["telemetry.sdk.language"] = "macp", "lua"
  resource["telemetry.sdk.version"] = sys.version
  return resource
end

---@param cfg table the section `otel` of the settings
---@param deps { metrics: macp.Metrics, pool: fun(): table } pool gives the messages of OTLP, asked for only when tracing
--- is on
---@return macp.Tracer tracer off unless the settings switch it on
---@return macp.telemetry.Exporter|nil to be started and closed
function M.open(cfg, deps)
  if not cfg.enabled or cfg.sdk_disabled then return tracer.new() end
  local sends = exporter.new({
    url = cfg.traces_endpoint or ((cfg.endpoint or DEFAULT_ENDPOINT):gsub("/+$", "") .. PATH),
    headers = pairs_of(cfg.headers), timeout_ms = cfg.timeout_ms,
    max_queue = cfg.max_queue, max_batch = cfg.max_batch, delay_ms = cfg.delay_ms, metrics = deps.metrics,
    otlp = otlp.new({ pool = deps.pool(), resource = resource_of(cfg), name = LIBRARY, version = sys.version }),
  })
  return tracer.new({ exporter = sends, sampler = sampler.new(cfg.sampler, cfg.sampler_arg) }), sends
end

return M
