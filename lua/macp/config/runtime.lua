-- Settings of the runtime role. Fields of an entry: see config/init.lua.

local MAX_INTEGER = 9007199254740991
local MAX_INT32 = 2147483647
local MAX_SECS_INT32 = 2147483 -- as milliseconds in 32 bits

local function positive(key, env, default, doc)
  return { key = key, env = env, type = "integer", min = 1, max = MAX_INTEGER, default = default, doc = doc }
end

local function bounded(key, env, default, min, max, doc)
  return { key = key, env = env, type = "integer", min = min, max = max, default = default, doc = doc }
end

local function count(key, env, default, doc)
  return { key = key, env = env, type = "integer", min = 0, max = MAX_INTEGER, default = default, doc = doc }
end

return {
  {
    key = "runtime.bind_addr", env = "MACP_BIND_ADDR", type = "address", default = "127.0.0.1:50051",
    doc = "Address on which the gRPC interface listens; port 0 takes a free one.",
  },
  {
    key = "runtime.allow_insecure", env = "MACP_ALLOW_INSECURE", type = "one", default = false,
    doc = "1 permits plaintext, and without other credentials every bearer value as an identity. Development only.",
  },
  {
    key = "runtime.dev_observers", env = "MACP_DEV_OBSERVERS", type = "list", default = {},
    doc = "Development identities that may read every session, e.g. that of a control plane.",
  },
  {
    key = "runtime.tls_cert_path", env = "MACP_TLS_CERT_PATH", type = "string",
    doc = "PEM certificate chain of the gRPC interface; TLS is on when the key is set as well. Changed files are used "
      .. "for new connections within a second, or at HUP; a pair that cannot work changes nothing.",
  },
  {
    key = "runtime.tls_key_path", env = "MACP_TLS_KEY_PATH", type = "string",
    doc = "PEM private key of the gRPC interface.",
  },
  {
    key = "runtime.tls_client_ca_path", env = "MACP_TLS_CLIENT_CA_PATH", type = "string",
    doc = "PEM authorities that client certificates are verified against.",
  },
  {
    key = "runtime.tls_client_auth", env = "MACP_TLS_CLIENT_AUTH", type = "enum",
    choices = { "none", "optional", "require" }, default = "none",
    doc = "Whether clients present a certificate. It replaces the bearer identity only if MACP_TLS_IDENTITY says so.",
  },
  {
    key = "runtime.tls_identity", env = "MACP_TLS_IDENTITY", type = "enum", choices = { "bearer", "san-uri" },
    default = "bearer", doc = "san-uri: the URI among the names of a verified client certificate is the sender.",
  },
  {
    key = "runtime.auth_tokens_json", env = "MACP_AUTH_TOKENS_JSON", type = "json", secret = true,
    doc = "Static tokens with their identities, inline; wins over the file.",
  },
  {
    key = "runtime.auth_tokens_file", env = "MACP_AUTH_TOKENS_FILE", type = "string",
    doc = "File with static tokens and their identities; read again when it changes and on SIGHUP.",
  },
  {
    key = "runtime.auth_issuer", env = "MACP_AUTH_ISSUER", type = "string",
    doc = "Issuer of signed tokens (JWT): turns them on. Their keys come from one of the MACP_AUTH_JWKS settings.",
  },
  {
    key = "runtime.auth_audience", env = "MACP_AUTH_AUDIENCE", type = "string", default = "macp-runtime",
    doc = "Audience that signed tokens must name.",
  },
  {
    key = "runtime.auth_jwks_json", env = "MACP_AUTH_JWKS_JSON", type = "json", secret = true,
    doc = "Keys of the issuer (JWK set), inline; wins over file and URL.",
  },
  {
    key = "runtime.auth_jwks_file", env = "MACP_AUTH_JWKS_FILE", type = "string",
    doc = "File with the keys of the issuer (JWK set); read again when it changes. Wins over the URL.",
  },
  {
    key = "runtime.auth_jwks_url", env = "MACP_AUTH_JWKS_URL", type = "string", secret = "url",
    doc = "Where the keys of the issuer (JWK set) are fetched, at their first use and then in the background.",
  },
  positive("runtime.auth_jwks_ttl_secs", "MACP_AUTH_JWKS_TTL_SECS", 300,
    "Age at which fetched keys are old; they are renewed a little earlier and outlive an hour of failures."),
  {
    key = "runtime.auth_jwt_algs", env = "MACP_AUTH_JWT_ALGS", type = "list", default = { "RS256", "ES256" },
    doc = "Algorithms that signed tokens may use, of RS256, ES256 and HS256.",
  },
  {
    key = "runtime.data_dir", env = "MACP_DATA_DIR", type = "string", default = ".macp-data",
    doc = "Directory of the journal, of the archive of mode revisions and of modes.json (what was registered over the "
      .. "wire); it is created. Sessions of macp-runtime that lie there are imported at start, once, into a journal "
      .. "that holds none.",
  },
  {
    key = "runtime.storage_backend", env = "MACP_STORAGE_BACKEND", type = "enum",
    choices = { "file", "rocksdb", "redis" },
    default = "file", doc = "How the journal is stored; `macp version` names the stores of this build. With redis, "
      .. "modes and policies that were registered in MACP_DATA_DIR are taken over once, and their files renamed.",
  },
  {
    key = "runtime.rocksdb_path", env = "MACP_ROCKSDB_PATH", type = "string",
    doc = "Directory of the RocksDB store; without it <MACP_DATA_DIR>/rocksdb.",
  },
  {
    key = "runtime.redis_url", env = "MACP_REDIS_URL", type = "string", secret = "url",
    default = "redis://127.0.0.1:6379",
    doc = "Server of the Redis store: redis://[user:password@]host[:port][/db], unix:///path[?db=N], or with TLS "
      .. "rediss://[user:password@]host[:port][/db][?ca=FILE][&cert=FILE&key=FILE]; without ca the system's "
      .. "authorities.",
  },
  {
    key = "runtime.redis_lease_ms", env = "MACP_REDIS_LEASE_MS", type = "integer", min = 500, max = 600000,
    default = 10000,
    doc = "How long the Redis store of a runtime that crashed keeps another one out.",
  },
  {
    key = "runtime.memory_only", env = "MACP_MEMORY_ONLY", type = "one", default = false,
    doc = "1 keeps everything in memory: nothing survives the process.",
  },
  positive("runtime.max_payload_bytes", "MACP_MAX_PAYLOAD_BYTES", 1048576, "Largest payload of an envelope."),
  positive("runtime.session_start_limit_per_minute", "MACP_SESSION_START_LIMIT_PER_MINUTE", 60,
    "Session starts per identity and minute."),
  positive("runtime.message_limit_per_minute", "MACP_MESSAGE_LIMIT_PER_MINUTE", 600,
    "Other messages per identity and minute, repeated and refused ones included."),
  count("runtime.checkpoint_interval", "MACP_CHECKPOINT_INTERVAL", 256,
    "Accepted messages between two checkpoints of a session's mode state; they wait until it rests, or for 16 times "
      .. "as many; 0 writes none."),
  positive("runtime.cleanup_interval_secs", "MACP_CLEANUP_INTERVAL_SECS", 60,
    "Pause between two clean-ups: stored sessions past their retention, idle rate counters."),
  count("runtime.session_retention_secs", "MACP_SESSION_RETENTION_SECS", 3600,
    "How long a finished session stays in lists; afterwards it is read from the journal when somebody asks for it."),
  count("runtime.session_disk_retention_secs", "MACP_SESSION_DISK_RETENTION_SECS", 0,
    "How long a session stays in the journal after it has ended; 0 keeps it forever. Each one kept takes 100 to 300 "
      .. "bytes of memory, for its place in the journal's index."),
  {
    key = "runtime.compact_terminal", env = "MACP_COMPACT_TERMINAL", type = "enum", choices = { "keep", "drop" },
    default = "keep",
    doc = "keep: envelopes of finished sessions stay readable as long as the session is stored. drop: they do not.",
  },
  {
    key = "runtime.log_compat", env = "MACP_LOG_COMPAT", type = "one", default = false,
    doc = "1 makes `macp sessions export` write payloads as arrays of integers, as older runtimes read them. The "
      .. "journal is binary and does not change.",
  },
  {
    key = "runtime.strict_recovery", env = "MACP_STRICT_RECOVERY", type = "one", default = false,
    doc = "1 replays finished sessions, too, and refuses to start when a stored session cannot be read or replayed.",
  },
  {
    key = "runtime.policies_dir", env = "MACP_POLICIES_DIR", type = "string",
    doc = "Directory of policies, one JSON file each, followed while running; with it nobody registers any.",
  },
  {
    key = "runtime.policies_dry_run", env = "MACP_POLICIES_DRY_RUN", type = "one", default = false,
    doc = "1 checks the files of MACP_POLICIES_DIR, tells what is wrong with each, and ends with 0 or 1.",
  },
  {
    key = "runtime.strict_policies", env = "MACP_STRICT_POLICIES", type = "one", default = false,
    doc = "1 refuses what policy builders emit needlessly: rules of other modes with their default, a threshold of 0.",
  },
  {
    key = "runtime.metrics_addr", env = "MACP_METRICS_ADDR", type = "address",
    doc = "Address of a plain HTTP listener with the metrics; none by default.",
  },
  count("runtime.shutdown_drain_secs", "MACP_SHUTDOWN_DRAIN_SECS", 10,
    "How long calls in flight may finish after a stop is asked for."),
  bounded("runtime.max_concurrent_streams", "MACP_MAX_CONCURRENT_STREAMS", 128, 1, MAX_INT32,
    "HTTP/2 streams per connection."),
  bounded("runtime.concurrency_limit_per_connection", "MACP_CONCURRENCY_LIMIT_PER_CONNECTION", 64, 1, MAX_INT32,
    "Requests of one connection that are worked on at a time, open streams not counted; more wait for their turn."),
  bounded("runtime.request_timeout_secs", "MACP_REQUEST_TIMEOUT_SECS", 30, 1, MAX_SECS_INT32,
    "A request that is not answered by then ends with DEADLINE_EXCEEDED; streams are not limited, and a client's "
      .. "smaller deadline wins."),
  count("runtime.auth_failure_limit_per_minute", "MACP_AUTH_FAILURE_LIMIT_PER_MINUTE", 600,
    "Refused credentials per address (of IPv6 per /64) and minute; beyond them only credentials that were accepted "
      .. "before are looked at, the rest is refused with RATE_LIMITED. 0 does not limit."),
  count("runtime.max_clock_skew_ms", "MACP_MAX_CLOCK_SKEW_MS", 300000,
    "Distance from our clock up to which a SessionStart's timestamp is the base of its deadline; 0 trusts any."),
  {
    key = "runtime.reflection", env = "MACP_REFLECTION", type = "one", default = false,
    doc = "1 serves gRPC reflection (v1 and v1alpha), so that tools such as grpcurl list and describe the services "
      .. "and the payloads of the modes that are served.",
  },
  {
    key = "runtime.stream_end_after_subscribe_denial", env = "MACP_STREAM_END_AFTER_SUBSCRIBE_DENIAL", type = "one",
    default = false,
    doc = "1 ends a stream whose subscription is refused, with PERMISSION_DENIED or FAILED_PRECONDITION behind the "
      .. "error: for clients that do not see errors on streams.",
  },
  {
    key = "runtime.ingress_file", env = "MACP_INGRESS_FILE", type = "string",
    doc = "Lua file that returns the functions start(caller, message), message(caller, session, message) and "
      .. "read(caller, session), each optional: what does not return true is refused, with the reasons it returns "
      .. "besides. Read at start and when it changes, where a bad one is not taken. It runs inside the runtime, may "
      .. "use its modules and wait, and must not compute long.",
  },
  {
    key = "runtime.extensions_file", env = "MACP_EXTENSIONS_FILE", type = "string",
    doc = "Lua file that returns a list of { key, on_session_start(session_id, extensions), on_session_terminal("
      .. "session_id, outcome) }: told of starts with that key among the extensions, and of every end, which is "
      .. "resolved, expired or cancelled. Told after the commit, never again after a restart. Read at start and when "
      .. "it changes, where a bad one is not taken.",
  },
  {
    key = "runtime.watch_policies_open", env = "MACP_WATCH_POLICIES_OPEN", type = "one", default = false,
    doc = "1 shows policies to everybody who watches them, as macp-runtime does: for clients that send no credential "
      .. "with WatchPolicies. Without any credentials configured they are shown anyway.",
  },
  {
    key = "runtime.list_sessions_scope", env = "MACP_LIST_SESSIONS_SCOPE", type = "enum",
    choices = { "all", "visible" }, default = "all",
    doc = "Whether ListSessions and WatchSessions show every session or only those the caller may read.",
  },
  positive("runtime.list_sessions_max_page_size", "MACP_LIST_SESSIONS_MAX_PAGE_SIZE", 1000,
    "Largest page of ListSessions."),
  {
    key = "runtime.list_sessions_default_page_size", env = "MACP_LIST_SESSIONS_DEFAULT_PAGE_SIZE",
    type = "integer", min = 1, max = MAX_INTEGER,
    default = function(cfg) return math.min(100, cfg.runtime.list_sessions_max_page_size or 100) end,
    doc = "Page of ListSessions when the caller names none and more sessions exist than fit the largest one.",
  },
  {
    key = "runtime.strict_supersedes", env = "MACP_STRICT_SUPERSEDES", type = "one", default = false,
    doc = "1 demands the full form sha256:<64 hex digits> of the hash in a commitment's supersedes.",
  },
  {
    key = "runtime.lenient_outcomes", env = "MACP_LENIENT_OUTCOMES", type = "one", default = false,
    doc = "1 accepts a commitment of either polarity as soon as any outcome is ready, as older runtimes do.",
  },
}
