-- What benchmarks run against: a private PostgreSQL and the program's roles as a process of their own, both in a
-- temporary directory and on free ports.

local fetch = require("host.fetch")
local fs = require("host.fs")
local net = require("host.net")
local http = require("host.http")

local postgres = require("spec.support.postgres")
local program = require("spec.support.program")

local Stack = {}
Stack.__index = Stack

local M = {}

---A TCP port that is free right now.
function M.free_port()
  local server = assert(http.listen({ host = "127.0.0.1", port = 0 }))
  local port = server:port()
  server:close()
  return port
end

local function environment(self)
  return {
    MACP_ENV = "development", MACP_LOG_LEVEL = "warn", MACP_LOG_FORMAT = "json", MACP_ALLOW_INSECURE = "1",
    MACP_DEV_OBSERVERS = "macp-control-plane", MACP_DATA_DIR = self.dir .. "/runtime",
    MACP_BIND_ADDR = "127.0.0.1:" .. self.grpc_port, RUNTIME_ADDRESS = "127.0.0.1:" .. self.grpc_port,
    HOST = "127.0.0.1", PORT = tostring(self.http_port), DATABASE_URL = self.database_url,
    THROTTLE_LIMIT = "1000000000", MACP_MESSAGE_LIMIT_PER_MINUTE = "1000000000",
    MACP_SESSION_START_LIMIT_PER_MINUTE = "1000000000", MACP_MAX_CONCURRENT_STREAMS = "4096", MACP_ROOT = false,
  }
end

---A directory, ports and (with database = true) a database; no role runs yet. (yields)
---@param opts { database: boolean|nil }|nil
function M.new(opts)
  local self = setmetatable({ dir = assert(fs.temp_dir("macp-bench")) }, Stack)
  self.grpc_port, self.http_port = M.free_port(), M.free_port()
  self.target = "127.0.0.1:" .. self.grpc_port
  self.url = "http://127.0.0.1:" .. self.http_port
  if opts and opts.database then
    self.cluster = postgres.start()
    self.database_url = self.cluster:conninfo()
    local migrated = program.start({ args = { "migrate" }, env = environment(self) })
    assert(migrated:wait(60000).code == 0, migrated:output())
  end
  return self
end

---Starts roles ("runtime", "plane", "plane,runtime") and returns the process at once. (yields)
---@param opts { env: table|nil, args: string[]|nil }|nil
function Stack:serve_unwaited(roles, opts)
  local env, args = environment(self), { "serve", "--role", roles }
  for name, value in pairs(opts and opts.env or {}) do env[name] = value end
  for _, word in ipairs(opts and opts.args or {}) do args[#args + 1] = word end
  return program.start({ args = args, env = env })
end

---Starts roles and waits until they serve. Returns the process. (yields)
function Stack:serve(roles, opts)
  local proc = self:serve_unwaited(roles, opts)
  if roles:find("plane", 1, true) then
    proc:wait_ready(self.url .. "/readyz", 30000)
  else
    self:wait_port(self.grpc_port, proc)
  end
  return proc
end

---Waits until something listens on a port. (yields)
function Stack.wait_port(_, port, proc)
  local task = require("host.task")
  for _ = 1, 3000 do
    local sock = net.connect("127.0.0.1", port)
    if sock then return sock:close() end
    if proc.status then error("the program ended:\n" .. proc:output()) end
    task.sleep(5)
  end
  error("nothing listens on port " .. port)
end

---GET of a path of the plane; body of the reply. (yields)
function Stack:get(path)
  local reply, err = fetch.request({ url = self.url .. path, timeout_ms = 30000, max_body_bytes = 64 * 1024 * 1024 })
  if not reply then error(err.message) end
  return reply.body, reply.status
end

---Stops the database and removes the directory. (yields)
function Stack:close()
  if self.cluster then self.cluster:stop() end
  fs.remove_tree(self.dir)
end

---User and system time of a process so far, in milliseconds. (yields)
function M.cpu_ms(pid)
  local stat = assert(fs.read("/proc/" .. pid .. "/stat"))
  local fields = {}
  for field in stat:match("%) (.*)$"):gmatch("%S+") do fields[#fields + 1] = field end
  return (tonumber(fields[12]) + tonumber(fields[13])) * 10 -- ticks of 1/100 s
end

---Resident memory of a process in MiB. (yields)
function M.rss_mib(pid)
  local status = assert(fs.read("/proc/" .. pid .. "/status"))
  return tonumber(status:match("VmRSS:%s*(%d+)")) / 1024
end

return M
