-- A PostgreSQL behind a network of its own, whose packets can be made to vanish: nothing is refused, closed or answered, as
-- when a cable is pulled. A network namespace of Linux, so only for root and where the tools are.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")

local postgres = require("macp.dev.postgres")

local eventually = require("spec.support.eventually")

local TOOLS = { "ip", "iptables", "setpriv" }
local DIRS = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" }
local PORT = 5432 -- nobody else is in the namespace

local Far = {}
Far.__index = Far

local M = {}

-- Where a program is, nil when it is not. (yields)
local function find(name)
  for _, dir in ipairs(DIRS) do
    if fs.stat(dir .. "/" .. name) then return dir .. "/" .. name end
  end
end

-- Runs a program to its end; nil and what it said when it fails. (yields)
local function run(name, ...)
  local proc, err = child.spawn({ file = assert(find(name), name), args = { ... }, stdout = "null", stderr = "pipe" })
  if not proc then return nil, err.message end
  local said = {}
  for line in function() return proc:read_line("stderr") end do said[#said + 1] = line end
  local status = proc:wait()
  proc:close()
  if status.code ~= 0 then return nil, name .. ": " .. table.concat(said, " ") end
  return true
end

---Why there can be none here, nil when there can. (yields)
---@return string|nil
function M.why_not()
  if sys.uid() ~= 0 then return "only root makes network namespaces" end
  for _, name in ipairs(TOOLS) do
    if find(name) == nil then return "there is no " .. name end
  end
  local name = "macp-try-" .. crypto.hex(crypto.random(4))
  local ok, err = run("ip", "netns", "add", name)
  if ok then ok, err = run("ip", "netns", "exec", name, find("iptables"), "-A", "INPUT", "-j", "DROP") end
  run("ip", "netns", "del", name)
  return not ok and err or nil
end

-- A namespace that is reached through a pair of interfaces. (yields)
local function connect(self)
  local tag, bytes = crypto.hex(crypto.random(4)), crypto.random(2)
  local net = ("10.213.%d."):format(bytes:byte(1))
  local at = math.floor(bytes:byte(2) / 4) * 4
  self.namespace, self.address = "macp-" .. tag, net .. at + 2
  local near, far = "mn" .. tag, "mf" .. tag
  assert(run("ip", "netns", "add", self.namespace))
  assert(run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self.namespace))
  assert(run("ip", "addr", "add", net .. at + 1 .. "/30", "dev", near))
  assert(run("ip", "link", "set", near, "up"))
  assert(run("ip", "-n", self.namespace, "addr", "add", self.address .. "/30", "dev", far))
  assert(run("ip", "-n", self.namespace, "link", "set", far, "up"))
end

-- Makes the cluster, as nobody needs a network for that. (yields)
local function initialise(self)
  local cluster = assert(postgres.start({ dir = self.dir, settings = { fsync = "off" } }))
  self.home, self.programs, self.user = cluster.home, cluster.programs, cluster.user
  cluster:stop()
  local path = self.home .. "/data/pg_hba.conf"
  assert(fs.write(path, assert(fs.read(path)) .. "\nhost all all 10.213.0.0/16 trust\n", { sync = false }))
end

---Starts one. (yields)
function M.start()
  local self = setmetatable({ dir = assert(fs.temp_dir("macp-far")) }, Far)
  assert(fs.chmod(self.dir, 493)) -- 0755: the server's account must pass
  initialise(self)
  connect(self)
  local user = self.user
  self.proc = assert(child.spawn({ file = find("ip"), cwd = "/", stderr = "null", args = {
    "netns", "exec", self.namespace,
    find("setpriv"), "--reuid", tostring(user.uid), "--regid", tostring(user.gid), "--clear-groups",
    self.programs .. "/postgres", "-D", self.home .. "/data", "-c", "listen_addresses=" .. self.address,
    "-c", "port=" .. PORT, "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "timezone=UTC",
  } }))
  local ping = require("host.pg").ping
  eventually(function() return ping(self:conninfo("postgres")) end, 20000, "PostgreSQL")
  return self
end

---A connection string for one of its databases.
function Far:conninfo(database)
  return string.format("host=%s port=%d user=macp dbname=%s", self.address, PORT, database)
end

---From now on every packet to it and from it vanishes. (yields)
function Far:cut()
  for _, chain in ipairs({ "INPUT", "OUTPUT" }) do
    assert(run("ip", "netns", "exec", self.namespace, find("iptables"), "-A", chain, "-j", "DROP"))
  end
end

---Packets arrive again. (yields)
function Far:mend()
  assert(run("ip", "netns", "exec", self.namespace, find("iptables"), "-F"))
end

---Ends it, with its network. (yields)
function Far:stop()
  self.proc:kill("QUIT")
  self.proc:wait()
  self.proc:close()
  run("ip", "netns", "del", self.namespace)
  fs.remove_tree(self.dir)
end

return M
