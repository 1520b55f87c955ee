-- A private PostgreSQL: initialised, started and stopped by this program, reached through a socket in its own directory.
-- Used by `macp dev`, the integration specs and the benchmarks.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local USER = "macp"
local DATABASE = "macp"
local SOCKET_PATH_MAX = 90 -- the system allows 107 bytes, of which the file name takes up to 17
local READY_TIMEOUT_MS = 60000 -- a slow machine; a server that cannot start ends at once
local STOP_TIMEOUT_MS = 10000
local FALLBACK_ROOT = "/var/lib/macp"
local OUTPUT_LINES = 20

local Cluster = {}
Cluster.__index = Cluster

local M = {}

local function failure(message, ...)
  return { code = "UNAVAILABLE", message = "PostgreSQL: " .. message:format(...) }
end

-- Runs a program to its end. Returns its output, or nil and what it said. (yields)
local function run(bin, args, user)
  local proc, err = child.spawn({
    file = bin, args = args, cwd = "/", stdout = "pipe", stderr = "pipe",
    uid = user and user.uid, gid = user and user.gid,
    env = { PATH = sys.env("PATH") or "/usr/bin:/bin", LC_ALL = "C.UTF-8" },
  })
  if not proc then return nil, err.message end
  local out, complaints = {}, {}
  local finished = task.group(function(group)
    group:spawn(function() for piece in function() return proc:read("stdout") end do out[#out + 1] = piece end end)
    group:spawn(function()
      for piece in function() return proc:read("stderr") end do complaints[#complaints + 1] = piece end
    end)
  end)
  if not finished then proc:kill("TERM") end -- our own task is cancelled
  local status = task.shield(proc.wait, proc)
  proc:close()
  if status.code ~= 0 or status.signal then return nil, (table.concat(complaints):gsub("%s+$", "")) end
  return table.concat(out)
end

---The directory with initdb and postgres: what pg_config says, else Debian's highest version. (yields)
---@return string|nil, table|nil err
function M.find_programs()
  local said = run("pg_config", { "--bindir" })
  local candidates = { said and said:gsub("%s+$", "") or nil }
  local versions = fs.list("/usr/lib/postgresql") or {}
  table.sort(versions, function(a, b) return (tonumber(a.name) or 0) > (tonumber(b.name) or 0) end)
  for _, entry in ipairs(versions) do candidates[#candidates + 1] = "/usr/lib/postgresql/" .. entry.name .. "/bin" end
  for _, dir in ipairs(candidates) do
    if fs.stat(dir .. "/postgres") and fs.stat(dir .. "/initdb") then return dir end
  end
  return nil, failure(
    "no PostgreSQL server programs found: install the package postgresql (Debian: apt-get install postgresql)")
end

-- PostgreSQL refuses to run as root: the account to use instead, nil when we are not root.
local function server_account()
  if sys.uid() ~= 0 then return nil end
  local user = fs.user("postgres") or fs.user("nobody")
  if not user then
    return nil, failure("running as root needs an account `postgres` or `nobody` for the database server")
  end
  return user
end

-- Whether every parent directory lets others pass: a home directory of root usually does not. (yields)
local function is_reachable(path)
  local at = ""
  for part in path:gmatch("[^/]+") do
    at = at .. "/" .. part
    local info = fs.stat(at)
    if not info then return true end -- will be created by us
    if info.mode % 2 == 0 then return false end -- no search permission for others
  end
  return true
end

-- Where the cluster lives: below dir, or in a place that the server's account can reach. (yields)
local function choose_home(dir, user)
  if user == nil or is_reachable(dir) then return dir end
  return FALLBACK_ROOT .. "/" .. crypto.sha256_hex(dir):sub(1, 12)
end

local function make_private(path, user)
  local ok, err = fs.mkdir_p(path)
  if not ok then return nil, err end
  ok, err = fs.chmod(path, 448) -- 0700
  if ok and user then ok, err = fs.chown(path, user.uid, user.gid) end
  return ok, err
end

local function initialise(self)
  local data = self.home .. "/data"
  if fs.stat(data .. "/PG_VERSION") then return true end
  local fresh = self.home .. "/data.new" -- renamed when complete, so that an interrupted start leaves nothing half made
  fs.remove_tree(fresh)
  local ok, err = make_private(fresh, self.user)
  if not ok then return nil, err end
  local _, complaint = run(self.programs .. "/initdb", {
    "-D", fresh, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
  }, self.user)
  if complaint then return nil, failure("initdb: %s", complaint) end
  return fs.rename(fresh, data)
end

-- Whether a process is the server of this directory: ids are used again, and a zombie has no command line. (yields)
local function is_server(self, pid)
  local command = fs.read("/proc/" .. pid .. "/cmdline") or ""
  return command:find("postgres\0-D\0" .. self.home .. "/data\0", 1, true) ~= nil
end

-- A server that survived a killed program still owns the directory: end it first. (yields)
local function stop_leftover(self)
  local text = fs.read(self.home .. "/data/postmaster.pid")
  local pid = text and text:match("^(%d+)")
  if not pid or not is_server(self, pid) then return true end
  log.info("postgres.leftover", { pid = tonumber(pid) })
  for _, signal in ipairs({ "-INT", "-QUIT" }) do
    run("/bin/kill", { signal, pid })
    local deadline = sys.mono_ms() + STOP_TIMEOUT_MS
    while sys.mono_ms() < deadline do
      if not is_server(self, pid) then return true end
      task.sleep(20)
    end
  end
  return nil, failure("the server of an earlier start (process %s) does not end", pid)
end

-- Keeps the last lines for error reports and shows the rest at debug level.
local function follow_output(self)
  self.lines = {}
  self.follower = task.spawn(function()
    for line in function() return self.proc:read_line("stderr") end do
      log.debug("postgres.output", { line = line })
      self.lines[#self.lines + 1] = line
      if #self.lines > OUTPUT_LINES then table.remove(self.lines, 1) end
    end
  end)
end

local function launch(self, settings)
  local args = {
    "-D", self.home .. "/data",
    "-c", "listen_addresses=", "-c", "unix_socket_directories=" .. self.socket,
    "-c", "max_connections=60", "-c", "shared_buffers=128MB", "-c", "max_wal_size=2GB",
    "-c", "timezone=UTC", "-c", "log_min_messages=warning",
  }
  for name, value in pairs(settings or {}) do
    args[#args + 1] = "-c"
    args[#args + 1] = name .. "=" .. tostring(value)
  end
  local err
  self.proc, err = child.spawn({
    file = self.programs .. "/postgres", args = args, cwd = "/", stderr = "pipe", own_session = true,
    uid = self.user and self.user.uid, gid = self.user and self.user.gid,
    env = { PATH = sys.env("PATH") or "/usr/bin:/bin", LC_ALL = "C.UTF-8" },
  })
  if not self.proc then return nil, err end
  follow_output(self)
  self.waiter = task.spawn(function()
    self.exit = self.proc:wait()
    return self.exit
  end)
  return true
end

local function wait_ready(self)
  local ping = require("host.pg").ping
  local admin = self:conninfo("postgres")
  local deadline = sys.mono_ms() + READY_TIMEOUT_MS
  while sys.mono_ms() < deadline do
    if self.exit then
      return nil, failure("the server ended at once: %s", table.concat(self.lines, " | "))
    end
    if ping(admin) then return true end
    local ok, err = task.sleep(10)
    if not ok then return nil, err end
  end
  return nil, failure("the server did not answer within %d s: %s", READY_TIMEOUT_MS / 1000,
    table.concat(self.lines, " | "))
end

local function ensure_database(self)
  local marker = self.home .. "/data/macp-database"
  if fs.stat(marker) then return true end
  local _, complaint = run(self.programs .. "/createdb", { "-h", self.socket, "-U", USER, DATABASE }, self.user)
  if complaint and not complaint:find("already exists", 1, true) then return nil, failure("createdb: %s", complaint) end
  return fs.write(marker, "", { sync = false })
end

-- The socket's directory: beside the data, or a short private one when that path is too long. (yields)
local function choose_socket(self)
  local beside = self.home .. "/socket"
  if #beside <= SOCKET_PATH_MAX then return beside end
  return "/tmp/macp-" .. crypto.sha256_hex(self.home):sub(1, 12)
end

---Initialises (once) and starts a cluster below dir. (yields)
---@param opts { dir: string, settings: table<string, string|number>|nil } dir: absolute; settings: server parameters
---@return table|nil cluster with conninfo() and stop(), table|nil err UNAVAILABLE
function M.start(opts)
  local programs, err = M.find_programs()
  if not programs then return nil, err end
  local user, user_err = server_account()
  if user_err then return nil, user_err end
  local self = setmetatable({ programs = programs, user = user }, Cluster)
  self.home = choose_home(opts.dir, user)
  self.socket = choose_socket(self)
  local ok
  ok, err = fs.mkdir_p(self.home)
  if ok then ok, err = make_private(self.socket, user) end
  if ok then self.lock, err = fs.lock(self.home .. "/lock") end
  if not self.lock then return nil, err end
  ok, err = stop_leftover(self)
  if ok then ok, err = initialise(self) end
  if ok then ok, err = launch(self, opts.settings) end
  if ok then ok, err = wait_ready(self) end
  if ok then ok, err = ensure_database(self) end
  if not ok then
    task.shield(self.stop, self)
    return nil, err
  end
  return self
end

---A libpq connection string for this cluster.
function Cluster:conninfo(database)
  return string.format("host=%s user=%s dbname=%s", self.socket, USER, database or DATABASE)
end

---The process id of the server, for tests that kill it.
function Cluster:pid() return self.proc:pid() end

---Stops the server in an orderly way and waits for its end; safe to call twice. (yields)
function Cluster:stop()
  if self.proc then
    self.proc:kill("INT")
    local stopped = task.with_deadline(STOP_TIMEOUT_MS, function() return self.waiter:join() end)
    if not stopped and not self.exit then
      self.proc:kill("QUIT")
      self.waiter:join()
    end
    self.follower:join()
    self.proc:close()
    self.proc = nil
  end
  if self.lock then
    self.lock:release()
    self.lock = nil
  end
end

return M
