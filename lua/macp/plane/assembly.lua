-- The parts of the plane: what it opens and makes, each after those that it needs, and how they hear of each other.

local log = require("host.log")
local sys = require("host.sys")

local errors = require("macp.core.errors")
local tenants = require("macp.core.tenants")
local launcher = require("macp.launcher")
local announce = require("macp.plane.announce")
local api_keys = require("macp.plane.api_keys")
local arrivals = require("macp.plane.arrivals")
local audit = require("macp.plane.audit")
local credentials = require("macp.plane.credentials")
local dashboard = require("macp.plane.dashboard")
local discovery = require("macp.plane.discovery")
local enrolment = require("macp.plane.enrolment")
local exports = require("macp.plane.exports")
local follower = require("macp.plane.follower")
local health = require("macp.plane.health")
local hub = require("macp.plane.hub")
local launch = require("macp.plane.launch")
local lease = require("macp.plane.lease")
local minter = require("macp.plane.minter")
local mode_routes = require("macp.plane.mode_routes")
local observer = require("macp.plane.observer")
local opening = require("macp.plane.opening")
local owner = require("macp.plane.owner")
local past_reader = require("macp.plane.past_reader")
local prices = require("macp.plane.prices")
local questions = require("macp.plane.questions")
local reader = require("macp.plane.reader")
local rebuild = require("macp.plane.rebuild")
local recovery = require("macp.plane.recovery")
local redaction = require("macp.plane.redaction")
local replay = require("macp.plane.replay")
local replies = require("macp.plane.replies")
local retention = require("macp.plane.retention")
local runs = require("macp.plane.runs")
local runtime_client = require("macp.plane.runtime_client")
local signals = require("macp.plane.signals")
local snapshot = require("macp.plane.snapshot")
local webhooks = require("macp.plane.webhooks.service")
local webhook_worker = require("macp.plane.webhooks.worker")
local writer = require("macp.plane.writer")
local db_door = require("macp.store.db")
local migrate = require("macp.store.migrate")
local revisions_store = require("macp.store.revisions")
local tracer = require("macp.telemetry.tracer")

local TENANT = tenants.FIRST -- of what all tenants share

local M = {}

-- Files that the operator keeps. (yields)
local function open_files(role, cfg)
  local err
  role.prices, err = prices.open(cfg.model_costs_file)
  if role.prices == nil then return nil, err end
  role.keys, err = api_keys.open({ keys = cfg.api_keys, file = cfg.api_keys_file,
    is_open_on_purpose = rawget(cfg, "is_open_on_purpose") })
  if role.keys == nil then return nil, err end
  role.redactor, err = redaction.open({ patterns = cfg.redact_patterns, file = cfg.redact_patterns_file,
    presets = cfg.redact_presets })
  return role.redactor ~= nil or nil, err
end

-- Connections and schema. (yields)
local function open_database(role, cfg)
  local db, err = db_door.open({
    url = cfg.database_url, max = cfg.db_pool_max, idle_ms = cfg.db_pool_idle_timeout,
    acquire_ms = cfg.db_pool_connection_timeout, statement_ms = cfg.db_statement_timeout,
    silence_ms = cfg.db_silence_timeout, name = role.name, observe = role.metrics.on_query,
  })
  if db == nil then return nil, err end
  role.db = db
  local status, _
  status, err = migrate.status(db)
  if status and #status.pending > 0 then _, err = migrate.upgrade(cfg.database_url, role.name) end
  local missing
  if err == nil then missing, err = migrate.missing(db) end
  if err then
    return nil, errors.wrap(err, err.code == "UNAVAILABLE" and "the database of DATABASE_URL" or "migrations")
  end
  for _, index in ipairs(missing) do
    log.warn("search.without_index", { index = index.name, needs = index.extension })
  end
  role.lease = lease.new({ db = db, tenant = TENANT, name = role.name })
  return role.lease:renew()
end

-- The modes that read sessions; their sources are archived in the database. (yields)
local function open_modes(role, services)
  role.registry = services.modes({ archive = revisions_store.archive(role.db, TENANT) })
  local ok, err = role.registry:load_all()
  if not ok then return nil, errors.wrap(err, "modes") end
  role.registry:watch()
  return true
end

-- Tokens of the plane, where a token service makes them.
local function open_minter(role, cfg)
  if (cfg.auth_service_url or "") == "" then return end
  role.minter = minter.new({ url = cfg.auth_service_url, timeout_ms = cfg.auth_service_timeout_ms,
    ttl_s = cfg.auth_token_ttl_seconds, sender = cfg.auth_token_sender, can_manage = cfg.auth_token_can_manage_registry,
    allow_private = cfg.outbound_allow_private, allow_hosts = cfg.outbound_allow_hosts })
end

local function open_client(role, cfg, services)
  open_minter(role, cfg)
  local client, err = runtime_client.new({
    address = cfg.runtime_address, tls = cfg.runtime_tls, kind = cfg.runtime_kind,
    timeout_ms = cfg.runtime_request_timeout_ms, version = services.version, metrics = role.metrics,
    breaker_threshold = cfg.runtime_circuit_breaker_threshold, breaker_reset_ms = cfg.runtime_circuit_breaker_reset_ms,
    tracer = role.tracer, credentials = credentials.new({ minter = role.minter,
      bearer_token = cfg.runtime_bearer_token, use_dev_header = cfg.runtime_use_dev_header,
      dev_agent_id = cfg.runtime_dev_agent_id }),
  })
  role.client = client
  return client ~= nil or nil, err
end

-- Who opens sessions for callers that ask for it, when that is wanted: a client of the runtime of its own.
local function build_opening(role, cfg, services)
  if cfg.launcher_enabled then
    role.opens_sessions = launcher.new({ address = cfg.runtime_address, tls = cfg.runtime_tls,
      bearer_token = cfg.launcher_bearer_token, dev_agent_id = cfg.runtime_dev_agent_id, headers = tracer.headers,
      timeout_ms = cfg.runtime_request_timeout_ms, max_retries = cfg.kickoff_max_retries, version = services.version })
  end
  role.opening = opening.new(role.opens_sessions)
end

-- Hub, owner and writers: the way of an event.
local function build_pipeline(role, cfg)
  role.hub = hub.new({ slow = role.metrics.slow, snapshot = function(run)
    if run.committed_seq == run.seq then
      role.hub:snapshot(run.id, snapshot.text(run), run.seq)
    else
      run.wants_render = true
      run.writer:include(run)
    end
  end })
  role.owner = owner.new({ db = role.db, name = role.name, registry = role.registry, hub = role.hub,
    supervisor = role.supervisor, tracer = role.tracer })
  role.writers = writer.new({
    pool = role.db, name = role.name, metrics = role.metrics, prices = role.prices, redactor = role.redactor,
    tracer = role.tracer, on_commit = function(entry)
      role.owner:on_commit(entry)
      if entry.announces then role.webhooks:wake() end
    end,
    on_lost = function(run, why) role.owner:on_lost(run, why) end,
    milestone_bytes = cfg.projection_milestone_bytes,
  })
  role.owner.writers = role.writers
end

-- What turns sessions into runs and keeps observing them.
local function build_observation(role, cfg)
  role.questions = questions.new(role.client)
  local observed = { client = role.client, metrics = role.metrics, questions = role.questions,
    tracer = role.tracer, is_stopping = function() return role.supervisor.draining end,
    backoff_base_ms = cfg.stream_backoff_base_ms, backoff_max_ms = cfg.stream_backoff_max_ms }
  local function observe(run)
    role.supervisor:start("observe." .. run.id, function() return observer.observe(observed, run) end,
      { restart = "on_error" })
  end
  role.launcher = launch.new({ opening = role.opening, client = role.client, registry = role.registry,
    owner = role.owner, observe = observe, questions = role.questions, tracer = role.tracer,
    supervisor = role.supervisor, poll_base_ms = cfg.session_poll_base_ms, poll_max_ms = cfg.session_poll_max_ms,
    poll_timeout_ms = cfg.session_poll_timeout_ms })
  role.recovery = recovery.new({ db = role.db, owner = role.owner, launcher = role.launcher,
    metrics = role.metrics, observe = observe })
  role.owner.resume = function(run) role.recovery:resume(run) end
  if cfg.session_discovery_enabled then
    role.discovery = discovery.new({ client = role.client, owner = role.owner, launcher = role.launcher,
      questions = role.questions, metrics = role.metrics, writers = role.writers, db = role.db,
      tenant = cfg.session_discovery_tenant, kind = cfg.runtime_kind, supervisor = role.supervisor,
      tracer = role.tracer })
    role.owner.on_ended = function(run) role.discovery:forget(run.session_id) end
    role.signals = signals.new({ client = role.client, owner = role.owner, metrics = role.metrics })
  end
end

-- Who is told of runs, and what tells them.
local function build_webhooks(role, cfg)
  local attempt = { timeout_ms = cfg.webhook_timeout_ms, allow_private = cfg.outbound_allow_private,
    allow_hosts = cfg.outbound_allow_hosts, now_ms = sys.now_ms, tracer = role.tracer }
  if cfg.webhook_delivery_enabled then
    role.webhook_worker = webhook_worker.new({ db = role.db, name = role.name, metrics = role.metrics.webhooks,
      timeout_ms = attempt.timeout_ms, concurrency = cfg.webhook_concurrency, total = cfg.webhook_concurrency_total,
      allow_private = attempt.allow_private, allow_hosts = attempt.allow_hosts, tracer = role.tracer })
  end
  role.webhooks = webhooks.new({ db = role.db, worker = role.webhook_worker, attempt = attempt,
    overlap_ms = cfg.webhook_secret_overlap_ms })
end

-- What requests are answered from.
local function build_services(role, cfg, services)
  role.audit = audit.new(role.db, role.redactor)
  role.replies = replies.new({ db = role.db, keep_ms = cfg.idempotency_retention_hours * 3600000 })
  role.reader = reader.new({ db = role.db, owner = role.owner, registry = role.registry,
    redactor = role.redactor })
  role.follower = follower.new({ db = role.db, hub = role.hub, reader = role.reader })
  role.announce = announce.new(cfg, role)
  role.writers.announce = role.announce
  role.rebuild = rebuild.new({ db = role.db, owner = role.owner, reader = role.reader,
    per_second = cfg.projection_rebuild_per_second })
  role.arrivals = arrivals.new({ owner = role.owner,
    grace_ms = cfg.session_discovery_enabled and cfg.run_discovery_grace_ms or 0 })
  role.replay = replay.new({ db = role.db, max_delay_ms = cfg.replay_max_delay_ms,
    batch_size = cfg.replay_batch_size })
  role.enrolment = enrolment.new(role.db)
  role.runs = runs.new({ opening = role.opening, enrolment = role.enrolment, tracer = role.tracer,
    db = role.db, owner = role.owner, writers = role.writers, launcher = role.launcher, client = role.client,
    questions = role.questions, supervisor = role.supervisor, redactor = role.redactor,
    is_watching = function() return role.discovery ~= nil and role.discovery.connected end,
    kinds = { [cfg.runtime_kind] = true, grpc = true },
    callback_timeout_ms = cfg.cancel_callback_timeout_ms, allow_private = cfg.outbound_allow_private,
    allow_hosts = cfg.outbound_allow_hosts, own_runtime = services.here and services.here.runtime,
  })
  role.past = past_reader.new({ db = role.db, registry = role.registry, redactor = role.redactor, runs = role.runs,
    past_bytes = cfg.replay_cache_bytes,
    aside = function(work) role.supervisor:start("past", work, { restart = "never" }) end })
  role.retention = retention.new({ db = role.db, url = cfg.database_url, enabled = cfg.data_retention_enabled,
    ttl_days = cfg.data_retention_ttl_days, interval_hours = cfg.data_retention_interval_hours,
    run_days = { completed = cfg.data_retention_completed_days, failed = cfg.data_retention_failed_days,
      cancelled = cfg.data_retention_cancelled_days },
    batch_size = cfg.data_retention_batch_size, metrics = role.metrics.retention,
    client = cfg.session_discovery_enabled and role.client or nil })
  role.exports = exports.new({ db = role.db, owner = role.owner, reader = role.reader, runs = role.runs,
    redactor = role.redactor })
  role.health = health.new({ db = role.db, client = role.client, owner = role.owner, kind = cfg.runtime_kind,
    announce = role.announce })
  role.dashboard = dashboard.new({ db = role.db, health = role.health, keep_ms = cfg.dashboard_cache_ms,
    redactor = role.redactor })
  role.heartbeat_ms = cfg.stream_sse_heartbeat_ms
  role.mode_routes = mode_routes.new({ registry = role.registry, owner = role.owner, reader = role.reader,
    runs = role.runs, plane = role, redactor = role.redactor, timeout_ms = cfg.mode_route_timeout_ms })
end

---Opens what the role works with and makes its parts. Whatever a failure leaves behind is closed with the role. (yields)
---@param role macp.plane.Role
---@param cfg table the section `plane` of the settings
---@param services table as for macp.plane.start
---@return true|nil
---@return table|nil err
function M.build(role, cfg, services)
  local ok, err = open_files(role, cfg)
  if ok then ok, err = open_database(role, cfg) end
  if ok then ok, err = open_modes(role, services) end
  if ok then ok, err = open_client(role, cfg, services) end
  if not ok then return nil, err end
  build_opening(role, cfg, services)
  build_pipeline(role, cfg)
  build_observation(role, cfg)
  build_webhooks(role, cfg)
  build_services(role, cfg, services)
  if role.announce and role.announce.prove then
    ok, err = role.announce:prove()
    if not ok then return nil, err end
  end
  return true
end

return M
