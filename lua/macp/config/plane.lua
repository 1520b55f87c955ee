-- Settings of the plane role. Fields of an entry: see config/init.lua.

local tenants = require("macp.core.tenants")

local function is_development(cfg)
  return cfg.app.environment == "development"
end

local function ttl_days(cfg)
  return cfg.plane.data_retention_ttl_days
end

local function tenant_name(name)
  return tenants.problem(name) and "must be " .. tenants.RULE
end

return {
  {
    key = "plane.host", env = "HOST", type = "string", default = "0.0.0.0",
    doc = "Address on which the HTTP interface listens.",
  },
  {
    key = "plane.port", env = "PORT", type = "integer", min = 0, max = 65535, default = 3001,
    doc = "Port of the HTTP interface; 0 takes a free one.",
  },
  {
    key = "plane.cors_origin", env = "CORS_ORIGIN", type = "string", default = "http://localhost:3000",
    doc = "The one web origin whose pages may call the HTTP interface, like https://console.example.org.",
  },
  {
    key = "plane.compression", env = "HTTP_COMPRESSION", type = "enum", default = "none", choices = { "none", "gzip" },
    doc = "gzip: large answers are compressed for callers that accept it. Worth it over slow networks; proxies in "
      .. "front usually do it better, and those that unpack answers but keep their length cut them off.",
  },
  {
    key = "plane.idempotency_retention_hours", env = "IDEMPOTENCY_RETENTION_HOURS", type = "integer", min = 1,
    max = 720, default = 24,
    doc = "How long the reply to a request with an Idempotency-Key is kept. Keys of runs are kept as long as the run.",
  },
  {
    key = "plane.docs_enabled", env = "DOCS_ENABLED", type = "boolean", default = is_development,
    doc = "Serve the description of the HTTP interface (/docs-json) and its page (/docs) to everybody; the default "
      .. "does so in development only.",
  },
  {
    key = "plane.api_keys", env = "AUTH_API_KEYS", type = "list", default = {}, secret = true,
    doc = "Keys that callers send in the Authorization header, comma separated: each the key itself, or an entry that "
      .. "holds only its digest, NAME:sha256:HEX;tenant=T;scopes=read+webhooks:write;expires=2027-01-31 (all options "
      .. "may be left out; `macp keys new` makes one). Callers see the data of their key's tenant, `default` for plain "
      .. "keys. No keys here and no AUTH_API_KEYS_FILE: everybody may call.",
  },
  {
    key = "plane.api_keys_file", env = "AUTH_API_KEYS_FILE", type = "string",
    doc = 'JSON file with more such entries, read again when it changes: {"keys": [{"name": "ops", "sha256": HEX, '
      .. '"tenant": "acme", "scopes": ["read"], "expires": "2027-01-31"}]}. One that cannot be used stops the start; '
      .. "later on the last good one stays in use.",
  },
  {
    key = "plane.throttle_ttl_ms", env = "THROTTLE_TTL_MS", type = "integer", min = 1, default = 60000,
    doc = "Length of the window in which requests are counted.",
  },
  {
    key = "plane.throttle_limit", env = "THROTTLE_LIMIT", type = "integer", min = 1, default = 100,
    doc = "Requests per window, endpoint and caller (a key; where no key is asked for an address, or an IPv6 network "
      .. "of 64 bits); more are refused with 429. As many calls with wrong keys may come from one address.",
  },

  -- database
  {
    key = "plane.database_url", env = "DATABASE_URL", type = "string", secret = "url",
    default = "postgres://postgres:postgres@localhost:5432/macp_control_plane",
    doc = "Connection string of the PostgreSQL database.",
  },
  {
    key = "plane.db_pool_max", env = "DB_POOL_MAX", type = "integer", min = 1, max = 1000, default = 20,
    doc = "Most connections to the database.",
  },
  {
    key = "plane.db_pool_idle_timeout", env = "DB_POOL_IDLE_TIMEOUT", type = "integer", min = 1, default = 30000,
    doc = "After how many milliseconds an unused connection is closed.",
  },
  {
    key = "plane.db_pool_connection_timeout", env = "DB_POOL_CONNECTION_TIMEOUT", type = "integer", min = 1,
    default = 5000, doc = "How many milliseconds a request waits for a connection.",
  },
  {
    key = "plane.db_statement_timeout", env = "DB_STATEMENT_TIMEOUT", type = "integer", min = 1, max = 86400000,
    default = 30000, doc = "How many milliseconds the database may take for one statement.",
  },
  {
    key = "plane.db_silence_timeout", env = "DB_SILENCE_TIMEOUT", type = "integer", min = 1, max = 86400000,
    default = 5000,
    doc = "A connection whose server says nothing for DB_STATEMENT_TIMEOUT and this many milliseconds more, while "
      .. "something is asked of it, is given up: the server is frozen, or the network swallows everything. What waited "
      .. "is answered with 503, and what may have been stored is looked up before it is stored again.",
  },

  -- the runtime that is observed
  {
    key = "plane.runtime_address", env = "RUNTIME_ADDRESS", type = "string", default = "127.0.0.1:50051",
    doc = "Address of the runtime's gRPC interface.",
  },
  {
    key = "plane.runtime_tls", env = "RUNTIME_TLS", type = "boolean", default = false,
    doc = "Talk TLS to the runtime, trusting the roots of the system.",
  },
  {
    key = "plane.runtime_allow_insecure", env = "RUNTIME_ALLOW_INSECURE", type = "boolean", default = is_development,
    doc = "Allow plain text to the runtime; the default allows it in development only.",
  },
  {
    key = "plane.runtime_bearer_token", env = "RUNTIME_BEARER_TOKEN", type = "string", secret = true,
    doc = "Token that authenticates the control plane to the runtime.",
  },
  {
    key = "plane.runtime_use_dev_header", env = "RUNTIME_USE_DEV_HEADER", type = "boolean", default = is_development,
    doc = "Without a token, name the control plane's development identity in each call; the default does so in "
      .. "development only.",
  },
  {
    key = "plane.runtime_dev_agent_id", env = "RUNTIME_DEV_AGENT_ID", type = "string", default = "macp-control-plane",
    doc = "The control plane's development identity.",
  },
  {
    key = "plane.runtime_request_timeout_ms", env = "RUNTIME_REQUEST_TIMEOUT_MS", type = "integer", min = 1,
    default = 30000, doc = "Longest time of one call to the runtime.",
  },
  {
    key = "plane.runtime_circuit_breaker_threshold", env = "RUNTIME_CIRCUIT_BREAKER_THRESHOLD", type = "integer",
    min = 1, default = 5, doc = "Consecutive failed calls after which the runtime is left alone for a while.",
  },
  {
    key = "plane.runtime_circuit_breaker_reset_ms", env = "RUNTIME_CIRCUIT_BREAKER_RESET_MS", type = "integer",
    min = 1, default = 30000, doc = "How long the runtime is left alone before one call probes it.",
  },
  {
    key = "plane.runtime_kind", env = "RUNTIME_KIND", type = "string", default = "rust",
    doc = "Name of the runtime's kind in descriptors and run records; `grpc` is accepted as well.",
  },

  -- tokens of the control plane
  {
    key = "plane.auth_service_url", env = "MACP_AUTH_SERVICE_URL", type = "string",
    doc = "Token service that makes the control plane's tokens for the runtime (POST <url>/tokens). While it is away "
      .. "RUNTIME_BEARER_TOKEN is used. A private address needs OUTBOUND_ALLOW_PRIVATE or OUTBOUND_ALLOW_HOSTS.",
  },
  {
    key = "plane.auth_service_timeout_ms", env = "MACP_AUTH_SERVICE_TIMEOUT_MS", type = "integer", min = 1,
    default = 5000, doc = "How long the token service may take to make a token.",
  },
  {
    key = "plane.auth_token_ttl_seconds", env = "MACP_AUTH_TOKEN_TTL_SECONDS", type = "integer", min = 60,
    max = 86400, default = 3600, doc = "Lifetime asked for; a token is made anew after four fifths of it.",
  },
  {
    key = "plane.auth_token_sender", env = "MACP_AUTH_TOKEN_SENDER", type = "string", default = "macp-control-plane",
    doc = "Whom the token service makes the token for.",
  },
  {
    key = "plane.auth_token_can_manage_registry", env = "MACP_AUTH_TOKEN_CAN_MANAGE_REGISTRY", type = "boolean",
    default = false, doc = "Ask for a token that may register policies.",
  },

  -- opening sessions
  {
    key = "plane.launcher_enabled", env = "LAUNCHER_ENABLED", type = "boolean", default = false,
    doc = "Open the session of a POST /runs that asks for it (an ExecutionRequest with a kickoff). The launcher is an "
      .. "agent of its own towards the runtime; the control plane itself only observes. `macp dev` turns it on.",
  },
  {
    key = "plane.launcher_bearer_token", env = "LAUNCHER_BEARER_TOKEN", type = "string", secret = true,
    doc = "Token of the launcher, under whose identity it sends. Without one every sender names itself, which runtimes "
      .. "allow in development only.",
  },
  {
    key = "plane.kickoff_max_retries", env = "KICKOFF_MAX_RETRIES", type = "integer", min = 0, max = 100, default = 3,
    doc = "How often the launcher sends a message again that did not arrive.",
  },

  -- observing sessions
  {
    key = "plane.session_poll_base_ms", env = "SESSION_POLL_BASE_MS", type = "integer", min = 1, default = 100,
    doc = "First pause between two questions for a session that is not open yet; it doubles each time.",
  },
  {
    key = "plane.session_poll_max_ms", env = "SESSION_POLL_MAX_MS", type = "integer", min = 1, default = 1000,
    doc = "Longest pause between two questions for a session that is not open yet.",
  },
  {
    key = "plane.session_poll_timeout_ms", env = "SESSION_POLL_TIMEOUT_MS", type = "integer", min = 1, default = 60000,
    doc = "How long a run waits for its session before it fails.",
  },
  {
    key = "plane.session_discovery_enabled", env = "SESSION_DISCOVERY_ENABLED", type = "boolean", default = true,
    doc = "Make runs of sessions nobody announced, and receive signals.",
  },
  {
    key = "plane.session_discovery_tenant", env = "SESSION_DISCOVERY_TENANT", type = "string", default = "default",
    validate = tenant_name,
    doc = "Tenant of the runs of sessions that nobody announced. Announced ones belong to the tenant of the key that "
      .. "announced them.",
  },
  {
    key = "plane.run_discovery_grace_ms", env = "RUN_DISCOVERY_GRACE_MS", type = "integer", min = 0, max = 60000,
    default = 1500, doc = "How long questions for an unknown run are held: its session may just have been opened.",
  },
  {
    key = "plane.run_recovery_enabled", env = "RUN_RECOVERY_ENABLED", type = "boolean", default = true,
    doc = "Pick up runs that nobody observes any more: at start and while running.",
  },
  {
    key = "plane.stream_idle_timeout_ms", env = "STREAM_IDLE_TIMEOUT_MS", type = "integer", min = 1, default = 120000,
    doc = "After how much silence of a session the runtime is asked about it; the stream is kept.",
  },
  {
    key = "plane.stream_backoff_base_ms", env = "STREAM_BACKOFF_BASE_MS", type = "integer", min = 1, default = 250,
    doc = "First pause before a lost session stream is opened again; it doubles each time.",
  },
  {
    key = "plane.stream_backoff_max_ms", env = "STREAM_BACKOFF_MAX_MS", type = "integer", min = 1, default = 30000,
    doc = "Longest pause before a lost session stream is opened again.",
  },

  -- retention
  {
    key = "plane.data_retention_enabled", env = "DATA_RETENTION_ENABLED", type = "boolean", default = false,
    doc = "Delete what is old: runs that have ended, unless they are tagged `retain`, entries of the audit log, and "
      .. "webhook deliveries that have ended. GET /admin/retention tells what that would be, without deleting it.",
  },
  {
    key = "plane.data_retention_ttl_days", env = "DATA_RETENTION_TTL_DAYS", type = "integer", min = 1, max = 36500,
    default = 30, doc = "How old: days since a run ended or an entry was made. Deleted runs are remembered as long, so "
      .. "that their sessions do not make new ones, and as long as the runtime tells about the session.",
  },
  {
    key = "plane.data_retention_completed_days", env = "DATA_RETENTION_COMPLETED_DAYS", type = "integer", min = 1,
    max = 36500, default = ttl_days, doc = "How old runs that completed; as DATA_RETENTION_TTL_DAYS unless set.",
  },
  {
    key = "plane.data_retention_failed_days", env = "DATA_RETENTION_FAILED_DAYS", type = "integer", min = 1,
    max = 36500, default = ttl_days, doc = "How old runs that failed; as DATA_RETENTION_TTL_DAYS unless set.",
  },
  {
    key = "plane.data_retention_cancelled_days", env = "DATA_RETENTION_CANCELLED_DAYS", type = "integer", min = 1,
    max = 36500, default = ttl_days, doc = "How old runs that were cancelled; as DATA_RETENTION_TTL_DAYS unless set.",
  },
  {
    key = "plane.data_retention_interval_hours", env = "DATA_RETENTION_INTERVAL_HOURS", type = "integer", min = 1,
    max = 8760, default = 24, doc = "Hours between two passes; the first comes 10 s after the start. One process at a "
      .. "time does it.",
  },
  {
    key = "plane.data_retention_batch_size", env = "DATA_RETENTION_BATCH_SIZE", type = "integer", min = 1, max = 10000,
    default = 500, doc = "Runs or entries that one transaction deletes at most; runs of many events are fewer.",
  },

  -- reading events
  {
    key = "plane.model_costs_file", env = "MACP_MODEL_COSTS_FILE", type = "string",
    doc = 'Price list of language models, read again when it changes: {"date": "2026-01-31", "currency": "USD", '
      .. '"perTokens": 1000000, "models": {"NAME": {"prompt": 2.5, "completion": 10}}, "default": {...}}; a model also '
      .. "has the price of the longest name it starts with, others have the default if there is one. Without a list "
      .. "costs are those that agents tell.",
  },

  {
    key = "plane.redact_patterns", env = "MACP_REDACT_PATTERNS", type = "list", default = {},
    doc = "Regular expressions, comma separated: what they match in payloads is stored and told as [REDACTED].",
  },
  {
    key = "plane.redact_patterns_file", env = "MACP_REDACT_PATTERNS_FILE", type = "string",
    doc = "File with more such expressions, one per line; they may contain commas.",
  },
  {
    key = "plane.redact_presets", env = "MACP_REDACT_PRESETS", type = "list", default = {},
    doc = "Sets of such expressions that come with the program: api_keys, email, ssn.",
  },
  {
    key = "plane.projection_milestone_bytes", env = "PROJECTION_MILESTONE_BYTES", type = "integer", min = 65536,
    default = 67108864,
    doc = "Bytes of earlier states that are stored with a run, for replay/state to begin from (PostgreSQL compresses "
      .. "them). Of a run with more, every second one is deleted, as often as it takes.",
  },
  {
    key = "plane.projection_rebuild_per_second", env = "PROJECTION_REBUILD_PER_SECOND", type = "integer", min = 1,
    max = 1000, default = 50,
    doc = "How many finished runs per second are folded again in the background after the rules have changed.",
  },

  -- serving
  {
    key = "plane.stream_hub_strategy", env = "STREAM_HUB_STRATEGY", type = "enum", default = "notify",
    choices = { "notify", "redis", "memory" },
    doc = "How processes over one database tell each other of new events: notify (by the database; only of "
      .. "runs that streams of another process follow), redis (by REDIS_URL; every event is published on "
      .. "macp:stream-hub, and rows of the database are what streams send) or memory (not at all: streams of "
      .. "other processes' runs look every "
      .. "second, as they do while Redis is away).",
  },
  {
    key = "plane.redis_url", env = "REDIS_URL", type = "string", secret = "url",
    doc = "Server of STREAM_HUB_STRATEGY=redis: redis://[[user]:password@]host[:port][/db], unix:///path[?db=N], or "
      .. "with TLS rediss://[[user]:password@]host[:port][/db][?ca=FILE][&cert=FILE&key=FILE]; without ca the system's "
      .. "authorities. The user needs the commands ping, subscribe and publish, and the channel macp:stream-hub.",
  },
  {
    key = "plane.stream_sse_heartbeat_ms", env = "STREAM_SSE_HEARTBEAT_MS", type = "integer", min = 1000,
    default = 15000, doc = "Pause between heartbeats of event streams.",
  },
  {
    key = "plane.stream_max_per_run", env = "STREAM_MAX_PER_RUN", type = "integer", min = 1, default = 1000,
    doc = "Live event streams of one run that this process serves at once; one more ends the oldest, which a proxy may "
      .. "have kept without a reader.",
  },
  {
    key = "plane.stream_max_per_caller", env = "STREAM_MAX_PER_CALLER", type = "integer", min = 1, default = 5000,
    doc = "The same of all event streams of one caller (a key, or an address), replays included.",
  },
  {
    key = "plane.dashboard_cache_ms", env = "DASHBOARD_CACHE_MS", type = "integer", min = 0, max = 3600000,
    default = 5000, doc = "For how long the same question of a dashboard gets the same answer; 0: counted each time.",
  },
  {
    key = "plane.replay_max_delay_ms", env = "REPLAY_MAX_DELAY_MS", type = "integer", min = 0, default = 2000,
    doc = "Longest pause between two events of a timed replay.",
  },
  {
    key = "plane.replay_cache_bytes", env = "REPLAY_CACHE_BYTES", type = "integer", min = 0, default = 67108864,
    doc = "Bytes of memory for earlier states of runs that somebody looked at (replay/state); 0 keeps none: each "
      .. "question is answered from the nearest stored state.",
  },
  {
    key = "plane.replay_batch_size", env = "REPLAY_BATCH_SIZE", type = "integer", min = 1, max = 5000, default = 500,
    doc = "How many events a replay reads at once.",
  },
  {
    key = "plane.mode_route_timeout_ms", env = "MODE_ROUTE_TIMEOUT_MS", type = "integer", min = 1, default = 5000,
    doc = "How long a read endpoint that a mode brings along may take, its questions to the database included.",
  },
  {
    key = "plane.cancel_callback_timeout_ms", env = "CANCEL_CALLBACK_TIMEOUT_MS", type = "integer", min = 1,
    default = 5000, doc = "How long a run's cancel callback may take.",
  },
  {
    key = "plane.outbound_allow_private", env = "OUTBOUND_ALLOW_PRIVATE", type = "boolean", default = is_development,
    doc = "Allow callbacks and webhooks to private and loopback addresses; the default allows it in development only.",
  },
  {
    key = "plane.outbound_allow_hosts", env = "OUTBOUND_ALLOW_HOSTS", type = "list", default = {},
    doc = "Hosts that callbacks and webhooks may always reach, comma separated.",
  },

  -- webhooks
  {
    key = "plane.webhook_delivery_enabled", env = "WEBHOOK_DELIVERY_ENABLED", type = "boolean", default = true,
    doc = "Deliver webhooks from this process; without it others do, or they wait.",
  },
  {
    key = "plane.webhook_timeout_ms", env = "WEBHOOK_TIMEOUT_MS", type = "integer", min = 100, max = 60000,
    default = 10000, doc = "Longest time of one attempt to deliver a webhook.",
  },
  {
    key = "plane.webhook_concurrency", env = "WEBHOOK_CONCURRENCY", type = "integer", min = 1, max = 64, default = 4,
    doc = "Attempts at once to one webhook from this process; one while it fails.",
  },
  {
    key = "plane.webhook_concurrency_total", env = "WEBHOOK_CONCURRENCY_TOTAL", type = "integer", min = 1, max = 256,
    default = 64, doc = "Attempts at once to all webhooks from this process.",
  },
  {
    key = "plane.webhook_secret_overlap_ms", env = "WEBHOOK_SECRET_OVERLAP_MS", type = "integer", min = 0,
    max = 2592000000, default = 86400000,
    doc = "How long the old secret of a webhook signs beside the new one, unless the change says otherwise.",
  },
}
