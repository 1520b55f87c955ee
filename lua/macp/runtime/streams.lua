-- StreamSession: envelopes in, accepted history out. A subscriber replays from the journal until it has caught up with
-- what was published, then follows live; both happen between two yields, so nothing is missed or repeated.

local rpc = require("host.rpc")
local task = require("host.task")

local host_bytes = require("host.bytes")
local host_log = require("host.log")

local acceptor_rules = require("macp.runtime.acceptor")
local codes = require("macp.protocol.codes")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")
local white_space = require("macp.protocol.white_space")

local STATUS = rpc.status
-- What a replay holds for a stream that is not read: a chunk of records, and as much again in the call's queue.
local CHUNK_RECORDS, CHUNK_BYTES = 128, 65536
-- Chunks that are read at a time, by all replays: what a thousand that begin together have read would all be written
-- before anybody else has a turn.
local MAX_READS = 4
local MAX_IN_FLIGHT = 64

local Streams = {}
Streams.__index = Streams

local M = {}

---@param opts { acceptor: table, sessions: table, log: table, journal: table, metrics: table, ends_denied: boolean,
---  ingress: macp.runtime.Ingress|nil }
---  ends_denied: a subscription that is refused ends its stream, behind the error
function M.new(opts)
  return setmetatable({
    acceptor = opts.acceptor,
    sessions = opts.sessions,
    log = opts.log,
    journal = opts.journal,
    metrics = opts.metrics,
    ends_denied = opts.ends_denied,
    ingress = opts.ingress,
    on_frame = M.on_frame, -- may be wrapped
    request_codec = messages.codec("macp.v1.StreamSessionRequest", { enums = "number" }),
    response_codec = messages.codec("macp.v1.StreamSessionResponse", { enums = "number" }),
    open = {},
    reads = 0, read_ended = task.cond(),
  }, Streams)
end

local function attach(stream, session)
  session.subscribers = session.subscribers or {}
  session.subscribers[stream] = true
  stream.following = session
end

local function detach(stream)
  local session = stream.following
  if session == nil then return end
  session.subscribers[stream] = nil
  if next(session.subscribers) == nil then session.subscribers = nil end
  stream.following = nil
end

-- Ends a stream from either side; the reader of its frames notices.
local function finish(stream, status, message)
  if stream.finished then return end
  stream.finished = true
  detach(stream)
  stream.call:finish(status, message)
end

local function offer(self, stream, session, frame)
  local ok, why = stream.call:offer(frame)
  if ok then return end
  if why == "full" then
    self.metrics.lagged:inc("session", 1)
    finish(stream, STATUS.RESOURCE_EXHAUSTED,
      string.format("the reader fell behind at envelope %d; subscribe again from there", session.published - 1))
  else
    detach(stream)
  end
end

---Hands a durable envelope to everybody who follows its session. Called in acceptance order.
function Streams:publish(session, frame)
  session.published = session.published + 1
  local subscribers = session.subscribers
  if subscribers == nil then return end
  local first = next(subscribers)
  if next(subscribers, first) ~= nil then frame = host_bytes.new(frame) end
  local stream = first
  while stream do
    local following = next(subscribers, stream)
    offer(self, stream, session, frame)
    stream = following
  end
end

---A session lost records: whoever submitted them on a stream learns it by the stream's end.
function Streams:lost(session)
  for stream in pairs(session.subscribers or {}) do
    local is_lost = stream.unconfirmed > 0 and self.journal:status(stream.lsn) == "failed"
    if is_lost then finish(stream, STATUS.INTERNAL, "StorageFailed: an envelope was not recorded") end
  end
end

---Ends every stream: for shutdown, or for the reason given.
function Streams:close(reason)
  for stream in pairs(self.open) do finish(stream, STATUS.UNAVAILABLE, reason or "the runtime is shutting down") end
end

local function write_error(self, stream, code, text, session_id, message_id, details)
  stream.refusal, stream.reason = code, text
  local frame = assert(self.response_codec:encode({
    error = {
      code = code, message = text, session_id = session_id, message_id = message_id or "",
      details = codes.details(details),
    },
  }))
  return stream.call:write(frame)
end

-- The envelopes a subscriber asks for were dropped. It stays, and may follow what is left to come: nothing. (yields)
local function refuse_dropped(self, stream, session)
  local text = string.format(
    "FAILED_PRECONDITION: the envelopes of this finished session are dropped; the smallest after_sequence is %d",
    session.ordinals)
  write_error(self, stream, "FAILED_PRECONDITION", text, session.id)
  if self.ends_denied then finish(stream, STATUS.FAILED_PRECONDITION, text) end
end

-- A chunk of records, in turn. (yields)
local function read_chunk(self, id, index)
  while self.reads >= MAX_READS do
    local ok, err = self.read_ended:wait()
    if not ok then
      self.read_ended:signal() -- the turn may have been ours
      return nil, err
    end
  end
  self.reads = self.reads + 1
  local chunk, err = self.journal:read(id, index, CHUNK_RECORDS, CHUNK_BYTES)
  self.reads = self.reads - 1
  self.read_ended:signal()
  return chunk, err
end

-- Writes one chunk of history. Returns the next ordinal, or nil when the stream is over. (yields)
local function replay_chunk(self, stream, session, ordinal)
  local chunk, err = read_chunk(self, session.id, session_record.index_of(session, ordinal))
  if session.is_dropped then -- meanwhile
    refuse_dropped(self, stream, session)
    return math.huge
  end
  if chunk == nil or #chunk == 0 then
    finish(stream, STATUS.INTERNAL, "the history cannot be read: " .. (err and err.message or "records are missing"))
    return nil
  end
  for _, bytes in ipairs(chunk) do
    if ordinal > session.published then break end
    local frame = records.frame_of(bytes)
    if frame then
      if not stream.call:write(frame, CHUNK_BYTES) then return nil end
      ordinal = ordinal + 1
    end
  end
  return ordinal
end

-- Delivers everything after an ordinal, then follows. (yields)
local function follow(self, stream, session, after)
  detach(stream)
  local ordinal = after + 1
  if session.is_dropped and after < session.ordinals then
    refuse_dropped(self, stream, session)
    ordinal = math.huge
  end
  while ordinal and ordinal <= session.published do
    if stream.finished then return end
    ordinal = replay_chunk(self, stream, session, ordinal)
  end
  if ordinal and not stream.finished then attach(stream, session) end
end

-- Whether somebody may follow a session, and why not. The site may wait: look for the session again. (yields)
local function check_reader(self, identity, session)
  if not session_record.may_read(session, identity) then
    return nil, "only the initiator, participants and observers may subscribe"
  end
  if self.ingress == nil then return true end
  return self.ingress:may_read(identity, session)
end

-- The session to follow; without one the stream has ended. (yields)
local function find_followed(self, stream, id)
  local session, err = self.sessions:find(id)
  if session then return session end
  if err then return finish(stream, STATUS.INTERNAL, err.message) end
  return finish(stream, STATUS.NOT_FOUND, "no session has this id")
end

-- Whether an envelope's sender will follow its session once it is accepted. The site is asked before: between the
-- acceptance and the publication nobody waits. Whom it lets start a session follows it. (yields)
local function may_follow(self, stream, envelope)
  if self.ingress == nil or envelope.message_type == "SessionStart" then return true end
  local session = self.sessions:find(envelope.session_id)
  return session ~= nil and check_reader(self, stream.identity, session) == true
end

-- A frame with subscribe_session_id. (yields)
local function on_subscribe(self, stream, request)
  local id = request.subscribe_session_id
  if stream.bound and stream.bound ~= id then
    return finish(stream, STATUS.INVALID_ARGUMENT, "the stream is bound to session " .. stream.bound)
  end
  local session = find_followed(self, stream, id)
  if session == nil then return end
  local may_read, reason = check_reader(self, stream.identity, session)
  if not may_read then
    local text = codes.text("FORBIDDEN", reason)
    write_error(self, stream, "FORBIDDEN", text, id)
    return self.ends_denied and finish(stream, STATUS.PERMISSION_DENIED, text)
  end
  if self.ingress then session = find_followed(self, stream, id) end
  if session == nil then return end
  stream.bound = id
  host_log.info("stream.subscribed", {
    session_id = id, sender = stream.identity.sender, after = request.after_sequence, published = session.published,
  })
  local after = tonumber(request.after_sequence) or math.huge
  -- An answer must not show more than is durable: the start itself may still be in flight.
  if session.published == 0 then self.log:wait(session.lsn) end
  follow(self, stream, session, after)
end

-- What must hold before an envelope frame may be judged; a breach ends the stream. Returns true, or nil.
local function check_binding(stream, envelope)
  if white_space.is_blank(envelope.session_id) or white_space.is_blank(envelope.mode) then
    finish(stream, STATUS.INVALID_ARGUMENT, "envelopes on a stream name a session and a mode")
    return nil
  end
  if stream.bound and stream.bound ~= envelope.session_id then
    finish(stream, STATUS.INVALID_ARGUMENT, "the stream is bound to session " .. stream.bound)
    return nil
  end
  local ok, _, text = acceptor_rules.claim_sender(stream.identity, envelope)
  if not ok then
    finish(stream, STATUS.UNAUTHENTICATED, text)
    return nil
  end
  stream.bound = envelope.session_id
  return true
end

-- Bounds how far a stream may run ahead of the disk. (yields)
local function confirm(self, stream)
  if stream.unconfirmed == 0 then return true end
  local ok, err = self.log:wait(stream.lsn)
  if not ok then
    if err.code ~= "CANCELLED" then finish(stream, STATUS.INTERNAL, "StorageFailed: " .. err.message) end
    return nil
  end
  stream.unconfirmed = 0
  return true
end

-- A frame with an envelope. (yields)
local function on_envelope(self, stream, envelope)
  local ok, code, text = self.acceptor:check_shape(envelope)
  if not ok then return write_error(self, stream, code, text, envelope.session_id, envelope.message_id) end
  if not check_binding(stream, envelope) then return end
  local message_id, follows = envelope.message_id, stream.following == nil and may_follow(self, stream, envelope)
  local verdict, refusal, reason, details = self.acceptor:accept(stream.identity, envelope)
  if verdict == nil then
    local is_lost = refusal == "INTERNAL_ERROR" and not codes.is_mode_failure(reason)
    if is_lost then return finish(stream, STATUS.INTERNAL, reason) end
    return write_error(self, stream, refusal, reason, envelope.session_id, message_id, details)
  end
  local session = verdict.session
  if session == nil then return end
  if follows and session_record.may_read(session, stream.identity) then attach(stream, session) end
  if verdict.duplicate then return end
  stream.lsn, stream.unconfirmed = verdict.lsn, stream.unconfirmed + 1
  if stream.unconfirmed >= MAX_IN_FLIGHT then confirm(self, stream) end
end

---Serves one frame of a stream; an error that answers it leaves its code in stream.refusal and its text in
---stream.reason. (yields)
---@param self table of new
---@param stream table
---@param bytes string
function M.on_frame(self, stream, bytes)
  local request, err = self.request_codec:decode(bytes)
  if request == nil then return finish(stream, STATUS.INTERNAL, "the message does not decode: " .. err.message) end
  local subscribes = request.subscribe_session_id ~= ""
  if subscribes == (request.envelope ~= nil) then
    return finish(stream, STATUS.INVALID_ARGUMENT, "a frame holds either an envelope or subscribe_session_id")
  end
  if subscribes then return on_subscribe(self, stream, request) end
  on_envelope(self, stream, request.envelope)
end

---Serves one call to its end. (yields)
---@param call table host.rpc call
---@param identity macp.auth.Identity
---@param scope table on_close runs when the handler ends, however it ends; finish and change are for tenures
function Streams:serve(call, identity, scope)
  local stream = { call = call, identity = identity, bound = nil, following = nil, finished = false, lsn = 0,
    unconfirmed = 0 }
  self.open[stream] = true
  self.metrics.streams_open:inc("session", 1)
  function scope.finish(status, message) finish(stream, status, message) end
  function scope.change(changed) stream.identity = changed end
  scope.on_close = function()
    detach(stream)
    self.open[stream] = nil
    self.metrics.streams_open:inc("session", -1)
  end
  while not stream.finished do
    local bytes, err = call:read()
    if bytes == nil then
      if err == nil and confirm(self, stream) then finish(stream, STATUS.OK) end
      return
    end
    self.on_frame(self, stream, bytes)
  end
end

return M
