-- The plane role: the control plane. Opens the database, starts observers and writers, mounts the routes, and ends all
-- of it in order. Everything it needs from outside comes in as configuration and services.

local crypto = require("host.crypto")
local http = require("host.http")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local chain = require("macp.auth.chain")
local tenants = require("macp.core.tenants")
local app_module = require("macp.http.app")
local errors = require("macp.core.errors")
local supervisor = require("macp.core.supervisor")
local api_keys = require("macp.plane.api_keys")
local audit = require("macp.plane.audit")
local announce = require("macp.plane.announce")
local arrivals = require("macp.plane.arrivals")
local background = require("macp.plane.background")
local credentials = require("macp.plane.credentials")
local dashboard = require("macp.plane.dashboard")
local discovery = require("macp.plane.discovery")
local enrolment = require("macp.plane.enrolment")
local exports = require("macp.plane.exports")
local follower = require("macp.plane.follower")
local health = require("macp.plane.health")
local hub = require("macp.plane.hub")
local launch = require("macp.plane.launch")
local launcher = require("macp.launcher")
local lease = require("macp.plane.lease")
local metrics = require("macp.plane.metrics")
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
local tracer = require("macp.telemetry.tracer")
local writer = require("macp.plane.writer")

local db_door = require("macp.store.db")
local migrate = require("macp.store.migrate")
local revisions_store = require("macp.store.revisions")

local TENANT = tenants.FIRST -- of what all tenants share
local ROUTES = {
  "runs", "run_actions", "run_facts", "removed", "exports", "run_batches",
  "events", "event_search", "replay",
  "runtime", "modes", "health", "admin", "audit",
  "dashboard", "webhooks",
}
local FLUSH_MS = 3000 -- how long the writers may take for what they hold; a database that is away stores nothing
local RELEASE_MS = 1000
local WEBHOOK_DRAIN_MS = 5000 -- for attempts in flight at the end

---@class macp.plane.Role
local Role = {}
Role.__index = Role

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

-- (yields)
local function listen(role, cfg, services)
  local app = app_module.new({
    title = "MACP control plane", version = services.version, config = cfg, metrics = services.metrics,
    auth = chain.new({ role.keys.resolver }), tracer = role.tracer, replies = role.replies,
    audit = function(ctx, action) return role.audit:record(ctx, action) end,
  })
  role.registry:on_change(function(rev, how)
    if how == "rolled back" then return end -- somebody asked for that, and the request has its entry
    role.audit:note(TENANT, "mode.reloaded", rev.id, { revision = rev.hash, how = how })
  end)
  for _, name in ipairs(ROUTES) do app:mount(require("macp.plane.routes." .. name).routes(role)) end
  if cfg.docs_enabled then
    role.registry:on_change(app:mount_docs(function() return require("macp.plane.routes.modes").documented(role) end))
  end
  local server, err = http.listen({ host = cfg.host, port = cfg.port })
  if server == nil then
    return nil, errors.wrap(err, string.format("listen on %s:%d", cfg.host, cfg.port))
  end
  role.app, role.server = app, server
  server:serve(app:handler(), app:on_error())
  role.port = server:port()
  role.url = "http://" .. (cfg.host == "0.0.0.0" and "127.0.0.1" or cfg.host) .. ":" .. role.port
  return true
end

---Starts the role. (yields)
---@param config table cfg of all roles
---@param services { metrics: macp.Metrics, modes: function, version: string, tracer: macp.Tracer|nil }
---@return macp.plane.Role|nil
---@return table|nil err
function M.start(config, services)
  local cfg = config.plane
  local role = setmetatable({
    name = "macp-" .. crypto.uuid4(), tenant = TENANT, supervisor = supervisor.new("plane"),
    metrics = metrics.new(services.metrics), registry_metrics = services.metrics,
    tracer = services.tracer or tracer.new(),
  }, Role)
  local function start()
    local ok, err = open_files(role, cfg)
    if not ok then return nil, err end
    ok, err = open_database(role, cfg)
    if not ok then return nil, err end
    ok, err = open_modes(role, services)
    if not ok then return nil, err end
    ok, err = open_client(role, cfg, services)
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
    role.health:seed()
    services.metrics:on_render(function() role.metrics.depth:set(role.writers:depth()) end)
    ok, err = listen(role, cfg, services)
    if not ok then return nil, err end
    background.start(role, cfg)
    return true
  end
  local ok, err = start()
  if not ok then
    role:close()
    return nil, err
  end
  log.info("plane.started", { url = role.url, runtime = cfg.runtime_address, owner = role.name })
  return role
end

---What the role does: { runs, sse, queue, tasks }.
function Role:status()
  return {
    runs = self.owner.count, sse = self.hub.count, queue = self.writers:depth(), tasks = self.supervisor:status(),
  }
end

---Reads mode folders again; with bad ones the old stay. (yields)
function Role:reload()
  self.registry:rescan()
end

---Stops taking work, tells the streams, and stores what is in flight. (yields)
---@param ms number
function Role:drain(ms)
  if self.drained then return true end
  self.drained = true
  local deadline = sys.mono_ms() + ms
  self.health.draining = true
  self.server:stop_listening()
  self.hub:close()
  self.app:shutdown_streams()
  self.server:drain(math.max(100, math.floor((deadline - sys.mono_ms()) / 2)))
  if self.discovery then
    self.discovery:stop()
    self.signals:stop()
  end
  if self.webhook_worker then
    self.webhook_worker:drain(math.max(1, math.min(WEBHOOK_DRAIN_MS, deadline - sys.mono_ms() - FLUSH_MS)))
  end
  local ok, err = self.supervisor:drain(math.max(RELEASE_MS, math.min(FLUSH_MS, deadline - sys.mono_ms())))
  if not ok then log.warn("plane.drain_incomplete", { error = err.message }) end
  return ok, err
end

---Ends everything. (yields)
function Role:close()
  if self.closed then return end
  self.closed = true
  if self.server then
    self:drain(FLUSH_MS)
    self.server:close()
  else
    self.supervisor:drain(FLUSH_MS)
  end
  if self.client then self.client:close() end
  if self.minter then self.minter:close() end
  if self.opens_sessions then self.opens_sessions:close() end
  if self.registry then self.registry:close() end
  if self.prices then self.prices:close() end
  if self.keys then self.keys:close() end
  if self.lease then task.with_deadline(RELEASE_MS, self.lease.release, self.lease) end
  if self.db then self.db:close() end
end

return M
