-- The whole program against a database of its own, both in processes that a spec may kill and start again: `macp serve`
-- on fixed ports over one data directory, and a private PostgreSQL.

local fetch = require("host.fetch")
local fs = require("host.fs")
local pg = require("host.pg")
local sys = require("host.sys")

local json = require("macp.core.json")
local postgres = require("macp.dev.postgres")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local ports = require("spec.support.ports")
local processes = require("spec.support.processes")
local program = require("spec.support.program")

local System = {}
System.__index = System

local OBSERVER = "macp-control-plane"
local READY_MS = 30000
local MAX_BODY = 64 * 1024 * 1024

local M = {}

---true in builds with a sanitizer, which are several times slower: specs do fewer rounds there.
M.is_slow = sys.build:find("san", 1, true) ~= nil or sys.build:find("address", 1, true) ~= nil

local function environment(self, more)
  local env = {
    MACP_ENV = "development", MACP_LOG_LEVEL = "info", MACP_LOG_FORMAT = "json", MACP_ALLOW_INSECURE = "1",
    MACP_DEV_OBSERVERS = OBSERVER, MACP_DATA_DIR = self.data, MACP_BIND_ADDR = "127.0.0.1:" .. self.grpc_port,
    RUNTIME_ADDRESS = "127.0.0.1:" .. self.grpc_port, HOST = "127.0.0.1", PORT = tostring(self.http_port),
    DATABASE_URL = self.database_url, THROTTLE_LIMIT = "1000000000", MACP_MESSAGE_LIMIT_PER_MINUTE = "1000000000",
    MACP_SESSION_START_LIMIT_PER_MINUTE = "1000000000", MACP_MAX_CONCURRENT_STREAMS = "4096",
    STREAM_BACKOFF_BASE_MS = "20", STREAM_BACKOFF_MAX_MS = "200",
  }
  for _, source in ipairs({ self.env or {}, more or {} }) do
    for name, value in pairs(source) do env[name] = value end
  end
  return env
end

---A directory, ports and, unless database = false, a running database. Nothing serves yet. (yields)
---@param opts { env: table|nil, args: string[]|nil, role: string|nil, database: boolean|nil, data: string|nil }|nil
--- role: by default both; data: directory of the runtime
function M.new(opts)
  opts = opts or {}
  local self = setmetatable({ dir = assert(fs.temp_dir("macp-system")), env = opts.env, args = opts.args,
    role = opts.role or "plane,runtime" }, System)
  assert(fs.chmod(self.dir, 493)) -- 0755: the server's account must pass
  self.data = opts.data or self.dir .. "/data"
  self.grpc_port, self.http_port = ports.free(), ports.free()
  self.address = "127.0.0.1:" .. self.grpc_port
  self.url = "http://127.0.0.1:" .. self.http_port
  if opts.database ~= false then self:start_database() end
  return self
end

---Like new, and serves. (yields)
function M.start(opts)
  local self = M.new(opts)
  local ok, err = pcall(self.serve, self)
  if not ok then
    self:close()
    error(err, 2)
  end
  return self
end

---Starts the program and waits until it serves. (yields)
---@param env table|nil variables for this start only
function System:serve(env)
  local args = { "serve", "--role", self.role }
  for _, word in ipairs(self.args or {}) do args[#args + 1] = word end
  self.program = program.start({ args = args, env = environment(self, env) })
  if self.role:find("plane", 1, true) then
    self.program:wait_ready(self.url .. "/readyz", READY_MS)
  else
    self.program:wait_line("^(ready) ", READY_MS)
  end
  return self.program
end

---Starts one more plane over the same database and runtime, as a process and on a port of its own. (yields)
---@param env table|nil
---@return { program: table, url: string }
function System:add_plane(env)
  local port = ports.free()
  local more = { PORT = tostring(port) }
  for name, value in pairs(env or {}) do more[name] = value end
  local plane = { url = "http://127.0.0.1:" .. port,
    program = program.start({ args = { "serve", "--role", "plane" }, env = environment(self, more) }) }
  self.planes = self.planes or {}
  table.insert(self.planes, plane)
  plane.program:wait_ready(plane.url .. "/readyz", READY_MS)
  return plane
end

---A client of the runtime; `boss` and everybody else is who they say. Closed by close(). (yields)
function System:client()
  if self.rig == nil then self.rig = client.connect(self.address) end
  return self.rig
end

---Ends the connection to the runtime; the next client() makes a new one.
function System:disconnect()
  if self.rig then self.rig.channel:close() end
  self.rig = nil
end

---kill -9 of the program. (yields)
function System:crash() self.program:crash() end

---Ends the program with TERM and expects that it ends well: exit code 0 means that a debug build found no open handle
---and no task either. (yields)
function System:stop(timeout_ms)
  self:disconnect()
  self.program:kill("TERM")
  local status = self.program:wait(timeout_ms or 15000)
  if status.code ~= 0 then error("exit code " .. tostring(status.code) .. ":\n" .. self.program:output(), 2) end
end

-- --- the database ---

---Starts the database on what its directory holds; a server that was killed may need a moment to let go. (yields)
function System:start_database()
  self.cluster = eventually(function() return postgres.start({ dir = self.dir .. "/postgres" }) end, READY_MS,
    "start of PostgreSQL")
  self.database_url = self.cluster:conninfo()
end

---kill -9 of the server; start_database() brings it back. (yields)
function System:crash_database()
  self.cluster.proc:kill("KILL")
  self.cluster:stop()
end

---Stops the server and its processes where they are: connections stay, nothing answers. (yields)
function System:pause_database() processes.freeze(self.cluster:pid()) end

---Lets all of it go on. (yields)
function System:continue_database() processes.thaw(self.cluster:pid()) end

---kill -9 of one process of the server that serves the program; the server itself restarts all of them. (yields)
---@param pick fun(n: integer): integer
function System:crash_backend(pick)
  local backends = {}
  for _, pid in ipairs(processes.children_of(self.cluster:pid())) do
    local name = fs.read("/proc/" .. pid .. "/cmdline") or ""
    if name:find("[local]", 1, true) then backends[#backends + 1] = pid end
  end
  if #backends > 0 then processes.signal("KILL", backends[pick(#backends)]) end
end

---Rows of one query, on a connection of its own. (yields)
function System:rows(text, ...)
  local pool = assert(pg.open({ conninfo = self.database_url, size = 1 }))
  local result, err = pool:query(text, { n = select("#", ...), ... })
  pool:close()
  if result == nil then error(err.message, 2) end
  return result.rows
end

-- --- the plane ---

---One request: status, decoded body, headers; nil, err when there was no reply. (yields)
function System:request(method, path, body, headers)
  local sent = { ["content-type"] = "application/json" }
  for name, value in pairs(headers or {}) do sent[name] = value end
  local reply, err = fetch.request({ url = self.url .. path, method = method, headers = sent, timeout_ms = 20000,
    max_body_bytes = MAX_BODY, body = type(body) == "table" and json.encode(body) or body })
  if reply == nil then return nil, err end
  local text = tostring(reply.body or "")
  return reply.status, text ~= "" and (json.decode(text) or text) or nil, reply.headers, text
end

function System:get(path, headers) return self:request("GET", path, nil, headers) end

---All events of a run. (yields)
function System:events(run_id)
  local all, after = {}, 0
  while true do
    local status, page
    eventually(function()
      status, page = self:get("/runs/" .. run_id .. "/events?limit=5000&afterSeq=" .. after)
      return status ~= 503 -- a database with much to do
    end, 10000, "a page of events")
    if status ~= 200 then error("events of " .. run_id .. ": " .. tostring(status), 2) end
    for _, event in ipairs(page) do all[#all + 1] = event end
    if #page < 5000 then return all end
    after = page[#page].seq
  end
end

local Stream = {}
Stream.__index = Stream

---Opens an event stream. Nothing is read before read_until or finish. (yields)
function System:stream(path, headers)
  local reply, err = fetch.open({ url = self.url .. path, headers = headers or {}, timeout_ms = 120000 })
  if reply == nil then error(err.message, 2) end
  return setmetatable({ reply = reply, status = reply.status, parts = {} }, Stream)
end

---Reads until what arrives contains `words` (nil: to the end of the stream); true when it did. (yields)
function Stream:read_until(words)
  local tail = ""
  while not (words and tail:find(words, 1, true)) do
    local chunk = self.reply:read()
    if chunk == nil then return false end
    chunk = tostring(chunk)
    self.parts[#self.parts + 1] = chunk
    tail = tail:sub(-#(words or "")) .. chunk
  end
  return true
end

---Everything that was read.
function Stream:text() return table.concat(self.parts) end

---The numbers of the canonical events in what was read.
function Stream:seqs()
  local seqs = {}
  for block in self:text():gmatch("(.-)\n\n") do
    if block:find("event: canonical_event", 1, true) then seqs[#seqs + 1] = tonumber(block:match("id: (%d+)")) end
  end
  return seqs
end

function Stream:close() self.reply:close() end

-- --- the runtime ---

---Message ids of a session's accepted history, and who sent each. (yields)
function System:history(session_id, reader)
  local stream, ids, senders = self:client():stream(reader or "boss"), {}, {}
  stream:subscribe(session_id)
  stream:half_close()
  while true do
    local response, err = stream:read()
    if response == nil then
      if err then error("history of " .. session_id .. ": " .. err.message, 2) end
      return ids, senders
    end
    if response.error then error("history of " .. session_id .. ": " .. response.error.message, 2) end
    ids[#ids + 1], senders[#senders + 1] = response.envelope.message_id, response.envelope.sender
  end
end

---Resident memory of the program in MiB. (yields)
function System:rss_mib()
  local status = assert(fs.read("/proc/" .. self.program.proc:pid() .. "/status"))
  return tonumber(status:match("VmRSS:%s*(%d+)")) / 1024
end

---Ends whatever runs and removes what it wrote. (yields)
function System:close()
  self:disconnect()
  if self.program and not self.program.status then self.program:crash() end
  for _, plane in ipairs(self.planes or {}) do
    plane.program:kill("CONT")
    if not plane.program.status then plane.program:crash() end
  end
  if self.cluster then self.cluster:stop() end
  fs.remove_tree(self.dir)
end

---A generator of whole numbers 1..n whose sequence depends on the seed only.
function M.dice(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = (state * 48271) % 2147483647 -- Lehmer; exact in doubles
    return state % n + 1
  end
end

---Runs fn(system) on a system that is closed afterwards, however fn ends. (yields)
function M.with(opts, fn)
  local self = M.start(opts)
  local ok, err = xpcall(fn, function(problem)
    if type(problem) == "string" then problem = debug.traceback(problem, 2) end
    return problem
  end, self)
  local output = not ok and self.program and self.program:output() or nil
  self:close()
  if not ok then
    if type(err) == "string" and output then
      err = err .. "\n--- the program's last lines ---\n" .. output:sub(-3000)
    end
    error(err, 0)
  end
end

return M
