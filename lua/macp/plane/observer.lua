-- The observer of one session: subscribes after the last stored envelope, hands every envelope on, comes back after a
-- lost stream, and notices the end. One task per run; it reads only as fast as the writers store.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local backoff = require("macp.core.backoff")
local errors = require("macp.core.errors")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local binding = require("macp.plane.binding")
local ending = require("macp.plane.ending")
local normalize = require("macp.plane.normalize")
local telling = require("macp.plane.telling")
local standing = require("macp.plane.standing")

local GRPC = errors.grpc
local CHUNK = 64
local SETTLED_MS = 500
local MAX_ORDINAL = 1e12 -- more envelopes than any session has

local M = {}

local codec

local CLOSING = { Commitment = true, SessionCancel = true }

-- The stream serves the run: at once for the first one; after an outage once something came, or it lasted.
local function mark_opened(run)
  run.stream_opened, run.stream_reported, run.reopened_ms, run.refusal = true, nil, nil, nil
  normalize.stream_status(run, "opened", nil, sys.now_ms())
end

---Streams that were opened again and stay, whether their sessions say something or not.
---@param runs table<string, macp.plane.Run>
function M.settle(runs)
  local now = sys.mono_ms()
  for _, run in pairs(runs) do
    if run.reopened_ms and now - run.reopened_ms >= SETTLED_MS and not run.gone and not run:has_ended() then
      mark_opened(run)
    end
  end
end

-- One envelope of the session's history.
local function take(deps, run, env, bytes, ms)
  if run.reopened_ms then mark_opened(run) end
  if env.session_id ~= "" and env.session_id ~= run.session_id then return end
  local ordinal = run.cursor + 1
  if run:is_duplicate(env.message_id) then return end
  if run.skip and run.skip[ordinal] then
    run:receive_frame(ms, "undecodable", ordinal, bytes)
    return
  end
  local t, wall_ms = run:session_time(tonumber(env.timestamp_unix_ms) or 0, ms)
  run:receive_frame(ms, "stream-envelope", ordinal, bytes)
  run.message_type = env.message_type
  normalize.envelope(run, env, ms, t, wall_ms)
  if run.owed then telling.settle(run) end
  if deps.metrics then deps.metrics.inbound(run.mode_name, env.message_type) end
  if CLOSING[env.message_type] then deps.questions:expect(run) end
end

-- A runtime that dropped old history names a number: the first ordinal that it can still tell, or the smallest one to
-- subscribe after. The former loses less and is tried first. true when the run goes on from there; what is no ordinal,
-- or not ahead, is an error like any other.
local function skip_gap(run, message, ms)
  local number = 0
  for digits in tostring(message):gmatch("%f[%w%-]%d+%f[^%w%-]") do number = math.max(number, tonumber(digits)) end
  if number > MAX_ORDINAL or number <= run.cursor then return false end
  run.cursor = math.max(number - 1, run.cursor + 1)
  if run.gap ~= number then normalize.stream_status(run, "gap", message, ms) end
  run.gap = number
  return true
end

-- Is this about history that was dropped? Older runtimes tell in words where others have a code.
local function is_about_history(failure)
  local words = (failure.code .. " " .. failure.message):lower()
  return failure.code == "FAILED_PRECONDITION" or words:find("sequence", 1, true) ~= nil
    or words:find("compact", 1, true) ~= nil
end

-- An observer sends nothing but its subscription, so an error that comes inline is about that: the stream may stay open,
-- but nothing can be relied on to come any more. A verdict that ends it, or nil and why it was refused.
local function take_error(run, failure, ms)
  local told = failure.code .. " " .. failure.message
  local why = { code = "RPC", message = failure.message ~= "" and failure.message or failure.code }
  if is_about_history(failure) and skip_gap(run, why.message, ms) then return "resubscribe" end
  if run.refusal == told then return nil, why end -- stored already, and nothing has come since
  run.refusal = told
  run:receive_document(ms, "stream-inline-error", json.encode({
    kind = "stream-inline-error", inlineError = { code = failure.code, message = failure.message,
      sessionId = failure.session_id, messageId = failure.message_id } }))
  normalize.inline_error(run, failure, ms)
  if told:lower():find("forbidden", 1, true) then return "refused" end
  return nil, why
end

-- Handles what one read brought; a verdict, or why it was refused, ends the stream.
local function take_all(deps, run, chunk, delays)
  codec = codec or messages.codec("macp.v1.StreamSessionResponse", { enums = "number" })
  local ms = sys.now_ms()
  for i = 1, #chunk do
    local decoded, err = codec:decode(chunk[i])
    if decoded == nil then
      run:receive_frame(ms, "undecodable", run.cursor + 1, chunk[i])
      log.warn("observer.undecodable", { run_id = run.id, error = err.message or tostring(err) })
    elseif decoded.envelope then
      run.stream_lost_ms = nil
      delays:reset()
      take(deps, run, decoded.envelope, chunk[i], ms)
    elseif decoded.error then
      return take_error(run, decoded.error, ms)
    end
  end
  return nil
end

-- Reads until the stream ends: nil verdict and the reason, or a verdict. (yields)
local function follow(deps, run, stream, delays)
  while not run.gone do
    local chunk, err = stream:read_many(CHUNK)
    if chunk == nil and not run.gone then
      return nil, err or { code = "RPC", status = GRPC.OK, message = "the stream ended" }
    end
    -- Asked right before the chunk goes in: many observers wait for the same room.
    local room, cancelled = run.writer:wait_room()
    if not room then return nil, cancelled end
    if run.gone then return "gone" end
    local span = deps.tracer and deps.tracer:child("stream.handle_raw_event", run.span,
      { run_id = run.id, ["macp.session_id"] = run.session_id, ["macp.event_count"] = #chunk })
    local verdict, why = take_all(deps, run, chunk, delays)
    if span then
      span.attributes["macp.raw_kind"] = run.raw_kind
      span.attributes["macp.message_type"] = run.message_type
      span:finish()
    end
    ending.check(run)
    if verdict or why then return verdict, why end
  end
  return "gone"
end

-- Subscribes and follows once. (yields)
local function observe_once(deps, run, delays)
  local stream, err = deps.client:subscribe(run.session_id, run.cursor)
  if stream == nil then return nil, err end
  run.stream = stream
  if deps.metrics then deps.metrics.subscribed() end
  local opened, headers_err = stream:headers()
  if opened == nil and headers_err then
    stream:cancel()
    run.stream = nil
    return nil, headers_err
  end
  if not run.gone then
    if not run.stream_opened then mark_opened(run)
    elseif run.stream_reported then run.reopened_ms = sys.mono_ms() end
    run.connected = true
    if deps.metrics then deps.metrics.streams:inc() end
  end
  local verdict, why = follow(deps, run, stream, delays)
  if run.connected and deps.metrics then deps.metrics.streams:dec() end
  run.connected, run.stream, run.reopened_ms = false, nil, nil
  stream:cancel()
  return verdict, why
end

-- What a call fails with while the runtime is away: nothing answers, nothing answers in time, or that is known already.
local AWAY = { RUNTIME_UNAVAILABLE = true, RUNTIME_TIMEOUT = true, CIRCUIT_BREAKER_OPEN = true }

-- Asks the runtime what became of the session; true when observing has an end. (yields)
local function has_ended(deps, run)
  local asked = standing.moment()
  local metadata, err = deps.client:get_session(run.session_id)
  if run.gone then return true end
  if metadata then
    if not standing.hear(run, binding.told(metadata, { asked = asked })) then deps.questions:expect(run) end
    return run:has_ended()
  end
  if errors.is(err, "NOT_FOUND") then
    ending.fail(run, "STREAM_EXHAUSTED", "the runtime no longer knows the session")
    return true
  end
  local expires = run.session and run.session.expires_ms
  if expires and sys.now_ms() > expires + 60000 and AWAY[err.code] then
    ending.fail(run, "RUNTIME_UNAVAILABLE", "the session's time is over and the runtime is not reachable")
    return true
  end
  return false
end

local function note_outage(deps, run, why)
  if run.stream_reported then return end
  run.stream_reported, run.stream_lost_ms = true, sys.mono_ms()
  normalize.stream_status(run, "reconnecting", why and why.message, sys.now_ms())
  if deps.metrics then deps.metrics.reconnects:inc() end
end

---Observes a bound run until it has ended or is no longer ours. (yields)
---@param deps { client: table, metrics: table|nil, questions: macp.plane.Questions, tracer: macp.Tracer|nil,
---  backoff_base_ms: integer, backoff_max_ms: integer }
---@param run macp.plane.Run
function M.observe(deps, run)
  local delays = backoff.new({ base_ms = deps.backoff_base_ms, max_ms = deps.backoff_max_ms })
  task.set_scope(run.scope)
  while not run.gone and not run:has_ended() do
    local verdict, why = observe_once(deps, run, delays)
    if run.gone or run:has_ended() then break end
    if why and why.code == "CANCELLED" and deps.is_stopping() then return nil, why end
    if verdict == "refused" then
      ending.fail(run, "FORBIDDEN", "the runtime does not let the control plane observe the session")
      break
    end
    if why and why.status == GRPC.FAILED_PRECONDITION and skip_gap(run, why.message, sys.now_ms()) then
      verdict = "resubscribe"
    end
    if verdict ~= "resubscribe" then
      note_outage(deps, run, why)
      if has_ended(deps, run) then break end
    end
    local slept, err = task.sleep(delays:next())
    if not slept then return nil, err end
  end
  return true
end

return M
