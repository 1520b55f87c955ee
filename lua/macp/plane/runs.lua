-- Runs: the rules for creating, checking, reading, listing and cancelling them. Routes call this module; it talks to
-- the store and never to HTTP.

local crypto = require("host.crypto")
local sys = require("host.sys")

local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local json = require("macp.core.json")
local time = require("macp.core.time")
local announced = require("macp.plane.announced")
local cancellation = require("macp.plane.cancellation")
local descriptor = require("macp.plane.descriptor")
local execution_request = require("macp.plane.execution_request")
local lifecycle = require("macp.plane.lifecycle")
local outbound = require("macp.plane.outbound")
local run_pages = require("macp.plane.run_pages")
local run_trace = require("macp.plane.run_trace")
local tracer = require("macp.telemetry.tracer")

local deletions_store = require("macp.store.deletions")
local events_store = require("macp.store.events")
local runs_store = require("macp.store.runs")

local null = json.null

---@class macp.plane.Runs
local Runs = {}
Runs.__index = Runs

local M = {}

---@param deps { db: table, owner: table, writers: table, launcher: table,
---  client: table, enrolment: macp.plane.Enrolment, supervisor: macp.Supervisor,
---  questions: macp.plane.Questions, opening: macp.plane.Opening, tracer: macp.Tracer|nil,
---  is_watching: (fun(): boolean) the runtime tells of the sessions it has,
---  kinds: table<string, boolean>, callback_timeout_ms: integer, allow_private: boolean, allow_hosts: string[],
---  redactor: macp.plane.Redactor|false|nil }
function M.new(deps)
  deps.pages = run_pages.new(deps)
  return setmetatable(deps, Runs)
end

local function iso(ms) return ms and time.iso(ms) or null end

-- A copy of a row in which callers' texts hold nothing that must not be seen.
local function redacted(redactor, row)
  return setmetatable({
    tags = redactor:json(row.tags), metadata = redactor:json(row.metadata),
    source_kind = row.source_kind and redactor:any(row.source_kind), source_ref = redactor:any(row.source_ref),
    error_message = redactor:any(row.error_message),
  }, { __index = row })
end

-- A row as clients see it; the owner knows a later last number than the row.
local function record_of(self, tenant, row)
  if self.redactor then row = redacted(self.redactor, row) end
  return {
    id = row.id, status = row.status, mode = row.mode, runtimeKind = row.runtime_kind,
    runtimeVersion = row.runtime_version or null, runtimeSessionId = row.runtime_session_id or null,
    traceId = row.trace_id or null, idempotencyKey = row.idempotency_key or null,
    lastEventSeq = self.owner:stored_seq(tenant, row.id) or row.last_event_seq,
    sourceKind = row.source_kind or null, sourceRef = row.source_ref or null,
    source = row.source_kind and { kind = row.source_kind, ref = row.source_ref } or nil,
    tags = json.raw(row.tags), metadata = json.raw(row.metadata),
    errorCode = row.error_code or null, errorMessage = row.error_message or null,
    createdAt = iso(row.created_at), startedAt = iso(row.started_at), endedAt = iso(row.ended_at),
    updatedAt = iso(row.updated_at), archivedAt = iso(row.archived_at),
  }
end

---The row as clients see it.
function Runs:record(tenant, row) return record_of(self, tenant, row) end

local function not_found(run_id)
  return errors.new("RUN_NOT_FOUND", nil, "run " .. run_id .. " not found")
end

M.not_found = not_found

---The row of a run. (yields)
function Runs:find(tenant, run_id)
  local row, err = runs_store.find(self.db, tenant, run_id)
  if row == nil then return nil, err end
  if not row then return nil, not_found(run_id) end
  return row
end

---A run as clients see it. (yields)
function Runs:get(tenant, run_id)
  local row, err = self:find(tenant, run_id)
  if row == nil then return nil, err end
  if row.ended_at == nil and not self.owner:stored_seq(tenant, run_id) then
    local tail, tail_err = events_store.tail(self.db, tenant, run_id)
    if tail == nil then return nil, tail_err end
    row.last_event_seq = tail.seq
  end
  return record_of(self, tenant, row)
end

---RUN_NOT_FOUND unless the run exists. (yields)
function Runs:require(tenant, run_id)
  if self.owner:stored_seq(tenant, run_id) then return true end
  local exists, err = runs_store.exists(self.db, tenant, run_id)
  if exists == nil then return nil, err end
  if not exists then return nil, not_found(run_id) end
  return true
end

---One page of runs. (yields)
---@param query table checked query parameters of GET /runs
function Runs:list(tenant, query)
  local page, err = self.pages:get(tenant, query)
  if page == nil then return nil, err end
  local data = json.array({})
  for i, row in ipairs(page.rows) do data[i] = record_of(self, tenant, row) end
  return { data = data, total = page.total, totalIsEstimate = page.is_estimate, limit = query.limit,
    offset = query.offset }
end

-- A run that is asked for, before it is stored, and its row.
local function row_of(self, tenant, body, session_id, now_ms)
  local metadata, execution = body.session.metadata or {}, body.execution or {}
  local callback = metadata.cancelCallback
  local delegated = metadata.cancellationDelegated == true
  local scenario = metadata.scenarioRef or metadata.sourceRef
  local id = crypto.uuid7() -- ascends: rows of runs and events that are new lie side by side in the indexes
  local context = run_trace.begin(self.tracer, { id = id, kind = body.runtime.kind, created_ms = now_ms,
    mode_name = body.session.modeName, execution_mode = body.mode }, tracer.current())
  local run, created = announced.new({
    tenant = tenant, id = id, session_id = session_id, kind = body.runtime.kind,
    trace_id = run_trace.id_of(context), context = context, created_ms = now_ms,
    mode_name = body.session.modeName, runtime_version = body.runtime.version,
  })
  return run, {
    tenant = tenant, id = id, status = run.status, mode = body.mode, runtime_kind = body.runtime.kind,
    runtime_version = body.runtime.version, runtime_session_id = session_id, trace_id = run.trace_id,
    trace_context = run_trace.stored(context),
    idempotency_key = execution.idempotencyKey,
    descriptor_hash = execution.idempotencyKey and descriptor.hash(body), -- nobody else asks for it
    source_kind = metadata.source, source_ref = metadata.sourceRef, environment = metadata.environment,
    scenario_ref = scenario, tags = json.encode(descriptor.tags(body)),
    metadata = json.encode({
      executionRequest = descriptor.kept(body, session_id), requester = execution.requester,
      cancelCallback = callback and { url = callback.url, bearer = callback.bearer and "[REDACTED]" or nil },
      modeName = body.session.modeName,
      cancellationDelegated = delegated or nil, environment = metadata.environment, scenarioRef = scenario,
    }),
    cancel_callback = callback and json.encode(callback), delegated_cancel = delegated,
    lease_owner = self.owner.name, created_at = time.iso(now_ms), created = created,
    is_session_named = body.session.sessionId ~= nil,
  }
end

local function accepted(row)
  return { runId = row.id, sessionId = row.runtime_session_id, status = row.status, traceId = row.trace_id }
end

-- Why the row could not be inserted: the same request again, another one with its key, or a session that is taken.
-- (yields)
local function explain_conflict(self, tenant, row)
  if row.idempotency_key then
    local known, err = runs_store.find_by_key(self.db, tenant, row.idempotency_key)
    if known == nil then return nil, err end
    if known and known.descriptor_hash == row.descriptor_hash then return accepted(known), true end
    if known then
      return nil, errors.new("CONFLICT", { runId = known.id }, "idempotency key was used for a different request")
    end
    known, err = deletions_store.of_key(self.db, tenant, row.idempotency_key)
    if known == nil then return nil, err end
    if known then
      return nil, errors.new("CONFLICT", { runId = known.id }, "the run of this idempotency key was deleted")
    end
  end
  return nil, errors.new("SESSION_ALREADY_EXISTS", nil,
    "a run for session " .. row.runtime_session_id .. " exists already")
end

-- Why a session's cancel callback can never be called from here, nil when it may be, or there is none.
local function callback_problem(self, session)
  local metadata = json.absent(session.metadata)
  local callback = metadata and json.absent(metadata.cancelCallback)
  return callback and outbound.refusal("session.metadata.cancelCallback.url", callback.url, self) or nil
end

---Creates a run and starts to wait for its session. (yields)
---@param body table checked descriptor
---@param note (fun(run_id: string): table)|nil gives the audit entry, which is stored with the run
---@return table|nil accepted { runId, sessionId, status, traceId }
---@return boolean|table|nil replayed true when the same request was made before; or the error
function Runs:create(tenant, body, note)
  local problem = descriptor.check(body, self.kinds) or callback_problem(self, body.session)
    or self.opening:check(body)
  if problem then return nil, problem end
  local session_id = body.session.sessionId or crypto.uuid4()
  local began_ms = sys.now_ms()
  local run, row = row_of(self, tenant, body, session_id, began_ms)
  row.audit = note and note(row.id)
  local stored, err = self.enrolment:insert(row)
  if stored == nil then return nil, err end
  if not stored then return explain_conflict(self, tenant, row) end
  fault("launch.inserted")
  lifecycle.queued(self.writers.metrics, run.seq)
  if run.span then run_trace.stored_batch(self.tracer, { run = run, n = run.seq }, began_ms, sys.now_ms()) end
  if self.owner:expect(run) then -- else whoever has loaded it goes on with it
    -- Nobody has heard of a session id that was made here, and the watch tells of one that is open.
    self.launcher:launch(run, body, not row.is_session_named or self.is_watching())
  end
  return { runId = run.id, sessionId = session_id, status = row.status, traceId = run.trace_id }, false
end

-- Who a descriptor's runtime is, asked by itself. (yields)
local function greet(self, body)
  local unknown = descriptor.check_kind(body, self.kinds)
  if unknown then return nil, unknown.message[1] end
  local hello, err = self.client:initialize()
  return hello, err and tostring(err.message)
end

---Would this descriptor launch? Asks the runtime, changes nothing. A runtime that does not answer, or of a kind that is not
---there, is worth a warning only: it may be there by the time of the launch. (yields)
---@param body table checked descriptor
function Runs:validate(body)
  local problems, warnings = json.array(execution_request.missing(body)), json.array({})
  local session = json.absent(body.session) or {}
  local mode_name = json.absent(session.modeName)
  local problem = descriptor.check_session_id(session)
  if problem then problems[#problems + 1] = problem.message end
  problem = callback_problem(self, session)
  if problem then problems[#problems + 1] = problem.message[1] end
  local runtime = { reachable = false, supportedModes = json.array({}) }
  local hello, why_not = greet(self, body)
  if hello == nil then
    warnings[1] = "Runtime not reachable: " .. why_not
  else
    runtime.reachable, runtime.capabilities = true, hello.capabilities
    local supported
    for i, name in ipairs(hello.supported_modes or {}) do
      runtime.supportedModes[i] = name
      supported = supported or name == mode_name
    end
    if mode_name and #runtime.supportedModes > 0 and not supported then
      problems[#problems + 1] = "session.modeName " .. mode_name .. " is not supported by the runtime"
    end
  end
  return { valid = #problems == 0, errors = problems, warnings = warnings, runtime = runtime }
end

---Cancels a run. (yields)
---@param opts { reason: string|nil, force: boolean|nil }
---@return table|nil record
---@return boolean|table|nil had_ended true when the run had ended before; or the error
function Runs:cancel(tenant, run_id, opts)
  local row, err = self:find(tenant, run_id)
  if row == nil then return nil, err end
  local had_ended
  row, had_ended = cancellation.cancel(self, tenant, row, opts)
  if not row then return nil, had_ended or not_found(run_id) end
  return record_of(self, tenant, row), had_ended
end

return M
