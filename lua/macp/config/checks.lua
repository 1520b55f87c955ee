-- Checks across settings before roles start. Problems refuse the start, warnings do not. What is convenient on one
-- machine passes only in development.

local redis = require("host.redis")

local SLOW_START_MS = 5000
local SHORT_KEY = 16

local M = {}

-- { is_wrong(plane settings), message, refuses }
local PLANE_PRODUCTION = {
  { function(plane) return plane.runtime_use_dev_header and (plane.runtime_bearer_token or "") == "" end,
    "RUNTIME_USE_DEV_HEADER is on without RUNTIME_BEARER_TOKEN: give the token, or switch the header off", true },
  { function(plane) return (plane.runtime_bearer_token or "") == "" and (plane.auth_service_url or "") == "" end,
    "RUNTIME_BEARER_TOKEN is not set: calls to the runtime carry no credentials", false },
  { function(plane) return not plane.runtime_tls and not plane.runtime_allow_insecure end,
    "RUNTIME_TLS is off and RUNTIME_ALLOW_INSECURE does not allow that: switch one of them on", true },
  { function(plane) return plane.launcher_enabled and (plane.launcher_bearer_token or "") == "" end,
    "LAUNCHER_ENABLED is on without LAUNCHER_BEARER_TOKEN: give the launcher a token of its own", true },
  { function(plane)
    return plane.launcher_enabled and (plane.launcher_bearer_token or "") ~= ""
      and plane.launcher_bearer_token == plane.runtime_bearer_token
  end, "LAUNCHER_BEARER_TOKEN is RUNTIME_BEARER_TOKEN: the launcher needs an identity of its own", true },
  { function(plane) return #plane.api_keys == 0 and (plane.api_keys_file or "") == "" end,
    "AUTH_API_KEYS and AUTH_API_KEYS_FILE are empty: everybody could call the HTTP interface; `macp keys new NAME` "
      .. "makes a key", true },
  { function(plane)
    for _, key in ipairs(plane.api_keys) do
      if #key < SHORT_KEY then return true end
    end
    return false
  end, "AUTH_API_KEYS holds a key of fewer than " .. SHORT_KEY .. " characters, which can be guessed: `macp keys "
    .. "new NAME` makes a better one", false },
  { function(plane) return plane.cors_origin:find("*", 1, true) ~= nil end,
    "CORS_ORIGIN is a pattern: pages of every site could call with their visitors' credentials; name the one origin, "
      .. "like https://console.example.org", true },
  { function(plane) return plane.stream_hub_strategy == "memory" end,
    "STREAM_HUB_STRATEGY is memory: event streams learn only once a second what other processes store", false },
  { function(plane) return plane.outbound_allow_private end,
    "OUTBOUND_ALLOW_PRIVATE is on: webhooks and callbacks that callers name reach addresses inside this network; "
      .. "OUTBOUND_ALLOW_HOSTS allows single ones", false },
  { function(plane) return plane.db_pool_max < 2 end, "DB_POOL_MAX must be at least 2", true },
  { function(plane) return plane.runtime_request_timeout_ms < SLOW_START_MS end,
    "RUNTIME_REQUEST_TIMEOUT_MS is below " .. SLOW_START_MS, false },
}

local SAMPLERS = { always_on = true, always_off = true, traceidratio = true }

-- Tracing that was asked for and cannot be done; variables of other programs do not matter while it is off.
local function check_tracing(otel, problems, warnings)
  if not otel.enabled or otel.sdk_disabled then return end
  if otel.protocol ~= "http/protobuf" then
    problems[#problems + 1] = "OTEL_EXPORTER_OTLP_PROTOCOL is " .. otel.protocol
      .. ": traces are sent as http/protobuf only"
  end
  if not SAMPLERS[(otel.sampler:gsub("^parentbased_", ""))] then
    problems[#problems + 1] = "OTEL_TRACES_SAMPLER is " .. otel.sampler .. ": it must be always_on, always_off or "
      .. "traceidratio, perhaps with `parentbased_` before it"
  end
  if (otel.endpoint or otel.traces_endpoint) == nil then
    warnings[#warnings + 1] = "OTEL_ENABLED is on without OTEL_EXPORTER_OTLP_ENDPOINT: traces go to localhost"
  end
end

-- How planes tell each other of events, where that needs a server of its own.
local function check_stream_hub(plane, problems)
  if plane.stream_hub_strategy ~= "redis" then return end
  if (plane.redis_url or "") == "" then
    problems[#problems + 1] = "STREAM_HUB_STRATEGY is redis without REDIS_URL: name the server, like "
      .. "redis://127.0.0.1:6379"
    return
  end
  local shown, err = redis.check(plane.redis_url)
  if shown == nil then problems[#problems + 1] = "REDIS_URL: " .. err.message end
end

-- Where sessions are stored, when a server stores them.
local function check_storage(runtime, problems)
  if runtime.memory_only or runtime.storage_backend ~= "redis" then return end
  local shown, err = redis.check(runtime.redis_url)
  if shown == nil then problems[#problems + 1] = "MACP_REDIS_URL: " .. err.message end
end

---@param cfg table
---@param roles string[]
---@return string[] problems
---@return string[] warnings
function M.run(cfg, roles)
  local problems, warnings = {}, {}
  check_tracing(cfg.otel, problems, warnings)
  for _, role in ipairs(roles) do
    if role == "plane" then check_stream_hub(cfg.plane, problems) end
    if role == "runtime" then check_storage(cfg.runtime, problems) end
  end
  if cfg.app.environment == "development" then return problems, warnings end
  for _, role in ipairs(roles) do
    for _, check in ipairs(role == "plane" and PLANE_PRODUCTION or {}) do
      if check[1](cfg.plane) then table.insert(check[3] and problems or warnings, check[2]) end
    end
  end
  return problems, warnings
end

return M
