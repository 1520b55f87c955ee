-- Settings of tracing, named as every OpenTelemetry program has them. Fields of an entry: see config/init.lua.

local function is_url(value)
  if not value:find("^https?://[^/?#%s]+") then return "must be an http or https URL" end
  return nil
end

local function are_pairs(items)
  for _, item in ipairs(items) do
    if not item:find("^[^=%s]+%s*=") then return "must be a list of name=value, comma separated" end
  end
  return nil
end

return {
  {
    key = "otel.enabled", env = "OTEL_ENABLED", type = "boolean", default = false,
    doc = "Record traces of the control plane, and of the runtime's RPCs, and send them to an OpenTelemetry collector.",
  },
  {
    key = "otel.sdk_disabled", env = "OTEL_SDK_DISABLED", type = "boolean", default = false,
    doc = "No traces, whatever OTEL_ENABLED says.",
  },
  {
    key = "otel.service_name", env = "OTEL_SERVICE_NAME", type = "string", default = "macp-control-plane",
    doc = "Name of this service in traces.",
  },
  {
    key = "otel.resource_attributes", env = "OTEL_RESOURCE_ATTRIBUTES", type = "list", default = {},
    validate = are_pairs, doc = "What else identifies this process in traces: name=value, comma separated, values "
      .. "percent-encoded.",
  },
  {
    key = "otel.endpoint", env = "OTEL_EXPORTER_OTLP_ENDPOINT", type = "string", validate = is_url,
    doc = "Address of the collector (OTLP over HTTP); traces are posted to <address>/v1/traces. None: "
      .. "http://localhost:4318.",
  },
  {
    key = "otel.traces_endpoint", env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", type = "string", validate = is_url,
    doc = "The whole address that traces are posted to, if it is another one.",
  },
  {
    key = "otel.protocol", env = { "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL" },
    type = "string", default = "http/protobuf", doc = "How the collector is talked to: http/protobuf is the only way.",
  },
  {
    key = "otel.headers", env = { "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS" }, type = "list",
    default = {}, secret = true, validate = are_pairs,
    doc = "Headers of requests to the collector, e.g. its key: name=value, comma separated, values percent-encoded.",
  },
  {
    key = "otel.timeout_ms", env = { "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT" },
    type = "integer", min = 1, max = 600000, default = 10000, doc = "How long the collector may take for a batch.",
  },
  {
    key = "otel.sampler", env = "OTEL_TRACES_SAMPLER", type = "string",
    default = "parentbased_always_on",
    doc = "Which traces are recorded: always_on, always_off, traceidratio, or one of these with `parentbased_` before "
      .. "it, which follows the caller's decision where there is a caller.",
  },
  {
    key = "otel.sampler_arg", env = "OTEL_TRACES_SAMPLER_ARG", type = "number", min = 0, max = 1, default = 1,
    doc = "Share of the traces that `traceidratio` samplers record.",
  },
  {
    key = "otel.max_queue", env = "OTEL_BSP_MAX_QUEUE_SIZE", type = "integer", min = 1, max = 1000000, default = 2048,
    doc = "Spans that may wait to be sent; further ones are dropped and counted.",
  },
  {
    key = "otel.max_batch", env = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", type = "integer", min = 1, max = 10000,
    default = 512, doc = "Most spans in one request to the collector.",
  },
  {
    key = "otel.delay_ms", env = "OTEL_BSP_SCHEDULE_DELAY", type = "integer", min = 1, max = 3600000, default = 5000,
    doc = "Longest time a span waits for others before they are sent.",
  },
}
