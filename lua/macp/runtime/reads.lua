-- GetSession and ListSessions: what a session looks like, never more than what is durable.

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local task = require("host.task")

local messages = require("macp.protocol.messages")
local session_record = require("macp.runtime.session")
local utf8 = require("macp.core.utf8")

local STATUS = rpc.status
local TOKEN_PREFIX = "v1:"
local MAX_TOKEN_CHARS = 1024
local BAD_TOKEN = "page_token is not valid"
local MAX_ATTEMPTS = 3
local BATCH = 128 -- sessions looked at before others have their turn

local M = {}

local codecs

local function load_codecs()
  local function codec(name) return messages.codec("macp.v1." .. name, { enums = "number" }) end
  codecs = {
    get_request = codec("GetSessionRequest"), get_response = codec("GetSessionResponse"),
    list_request = codec("ListSessionsRequest"), list_response = codec("ListSessionsResponse"),
  }
end

local function decoded(call, codec)
  local request, err = call:decode(codec)
  if request == nil then call:fail(STATUS.INTERNAL, "the request does not decode: " .. err.message) end
  return request
end

-- Lets time act before a session is shown. When expiry cannot be recorded, the old state is shown.
local function observe(service, session)
  service.kernel:observe(session, math.max(service.now_ms(), session.last_at))
end

local function find(service, id)
  local session, err = service.sessions:find(id)
  if session then return session end
  if err then return nil, STATUS.INTERNAL, err.message end
  return nil, STATUS.NOT_FOUND, "no session has this id"
end

-- Whether a caller may read a session; nil, and the answer. (yields)
local function check_reader(service, identity, id)
  local session, status, text = find(service, id)
  if session == nil then return nil, status, text end
  if not session_record.may_read(session, identity) then
    return nil, STATUS.PERMISSION_DENIED, "FORBIDDEN: only the initiator, participants and observers may read"
  end
  if service.ingress == nil then return true end
  local ok, reason = service.ingress:may_read(identity, session)
  if ok then return true end
  return nil, STATUS.PERMISSION_DENIED, "FORBIDDEN: " .. reason
end

-- Encodes a session and waits until all of it is durable; a session that lost records meanwhile is read again. (yields)
local function read_durable(service, identity, id)
  local may_read, refusal, text = check_reader(service, identity, id)
  if not may_read then return nil, refusal, text end
  for _ = 1, MAX_ATTEMPTS do
    local session, status, reason = find(service, id)
    if session == nil then return nil, status, reason end
    observe(service, session)
    local bytes = assert(codecs.get_response:encode({ metadata = session_record.metadata(session) }))
    local ok, why = service.log:wait(session.lsn)
    if ok and not session.stale then return bytes end
    if not ok and why.code == "CANCELLED" then return nil end
  end
  return nil, STATUS.INTERNAL, "StorageFailed: the session is being rebuilt"
end

---GetSession: the facts of one session, once they are durable, for its initiator, participants and observers. (yields)
function M.get_session(service, call, identity)
  if codecs == nil then load_codecs() end
  local request = decoded(call, codecs.get_request)
  if request == nil then return end
  local bytes, status, text = read_durable(service, identity, request.session_id)
  if bytes then return call:reply(bytes) end
  if status then call:fail(status, text) end
end

---The cursor behind a page token, "" for none; nil when it is not one.
function M.decode_token(token)
  if token == "" then return "" end
  if #token > MAX_TOKEN_CHARS then return nil end
  if token:find("=", 1, true) then return nil end -- ours are not padded
  local text = crypto.base64url_decode(token)
  if text == nil or text:sub(1, #TOKEN_PREFIX) ~= TOKEN_PREFIX then return nil end
  local cursor = text:sub(#TOKEN_PREFIX + 1)
  if cursor == "" or not utf8.is_text(cursor) then return nil end
  return cursor
end

---The page token behind an id.
function M.encode_token(id) return crypto.base64url_encode(TOKEN_PREFIX .. id) end

local function page_size_of(service, requested, count)
  local page = service.page
  if requested == 0 then return count <= page.max and page.max or page.default end
  return math.min(requested, page.max)
end

-- Collects one page. Returns the sessions' facts, the last id when more follow, and what must be durable. (yields)
local function collect(service, identity, cursor, size)
  local sessions = service.sessions
  local list, lsn, looked_at = {}, 0, 0
  local id = sessions.by_name:after(cursor)
  while id and #list < size do
    cursor = id
    local session = sessions:find(id)
    if session and (not service.visible_only or session_record.may_read(session, identity)) then
      observe(service, session)
      list[#list + 1] = session_record.metadata(session)
      lsn = math.max(lsn, session.lsn)
    end
    looked_at = looked_at + 1
    if looked_at % BATCH == 0 and not task.sleep(0) then return nil end
    id = sessions.by_name:after(cursor)
  end
  return list, id and cursor, lsn
end

---ListSessions: one page of what the caller may see, in the order of ids, once it is durable. (yields)
function M.list_sessions(service, call, identity)
  if codecs == nil then load_codecs() end
  local request = decoded(call, codecs.list_request)
  if request == nil then return end
  if request.page_size < 0 then return call:fail(STATUS.INVALID_ARGUMENT, "page_size is negative") end
  local cursor = M.decode_token(request.page_token)
  if cursor == nil then return call:fail(STATUS.INVALID_ARGUMENT, BAD_TOKEN) end
  local size = page_size_of(service, request.page_size, service.sessions.count)
  local list, last, lsn = collect(service, identity, cursor, size)
  if list == nil then return end
  local bytes = assert(codecs.list_response:encode({
    sessions = list, next_page_token = last and M.encode_token(last) or "",
  }))
  local ok, err = service.log:wait(lsn)
  if ok then return call:reply(bytes) end
  if err.code ~= "CANCELLED" then call:fail(STATUS.INTERNAL, "StorageFailed: " .. err.message) end
end

return M
