-- A real redis-server for specs: private, on a unix socket in a temporary directory, with an append-only file.

local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")

local eventually = require("spec.support.eventually")

local Server = {}
Server.__index = Server

local M = {}

---false when this build has no Redis backend.
function M.is_built()
  for _, name in ipairs(require("host.journal").backends()) do
    if name == "redis" then return true end
  end
  return false
end

-- What redis-cli prints for a command; nil when it fails. (yields)
local function run(self, args)
  local words = { "-s", self.socket }
  for _, word in ipairs(args) do words[#words + 1] = word end
  local env = { PATH = sys.env("PATH") or "/usr/bin:/bin", LC_ALL = "C.UTF-8" }
  local proc = assert(child.spawn({ file = "redis-cli", args = words, env = env, stdout = "pipe", stderr = "null" }))
  local parts = {}
  for part in function() return proc:read("stdout") end do parts[#parts + 1] = tostring(part) end
  local status = proc:wait()
  proc:close()
  if status.code ~= 0 then return nil end
  return (table.concat(parts):gsub("\n$", ""))
end

---Starts the server, again after kill(), on what its directory holds, and waits until it answers. (yields)
function Server:start()
  local args = {
    "--port", "0", "--unixsocket", self.socket, "--dir", self.dir, "--appendonly", "yes",
    "--appendfsync", self.fsync, "--save", "", "--logfile", self.dir .. "/log",
  }
  if self.certs then
    for _, word in ipairs({
      "--tls-port", tostring(self.port), "--tls-cert-file", self.certs .. "/server.pem", "--tls-key-file",
      self.certs .. "/server.key", "--tls-ca-cert-file", self.certs .. "/ca.pem", "--bind", "127.0.0.1",
    }) do
      args[#args + 1] = word
    end
  end
  self.proc = assert(child.spawn({
    file = "redis-server", args = args, own_session = true, stdout = "null", stderr = "null",
    env = { PATH = sys.env("PATH") or "/usr/bin:/bin", LC_ALL = "C.UTF-8" },
  }))
  eventually(function() return run(self, { "PING" }) == "PONG" end, 15000, "an answer of redis-server")
  return self
end

---A new, empty server. (yields)
---@param opts { fsync: string|nil, certs: string|nil, port: integer|nil }|nil fsync: appendfsync, by default "always";
---  certs: directory of certs.sh, for TLS at a port besides, with a certificate of the client
function M.start(opts)
  local dir = assert(fs.temp_dir("macp-redis"))
  local self = setmetatable({ dir = dir, socket = dir .. "/socket", fsync = opts and opts.fsync or "always",
    certs = opts and opts.certs, port = opts and opts.port }, Server)
  self.url = "unix://" .. self.socket
  return self:start()
end

---One command; its answer as redis-cli prints it. (yields)
function Server:command(...)
  local answer = run(self, { ... })
  if answer == nil then error("redis-cli failed: " .. table.concat({ ... }, " "), 2) end
  return answer
end

---kill -9. (yields)
function Server:kill()
  if self.proc == nil then return end
  self.proc:kill("KILL")
  self.proc:wait()
  self.proc:close()
  self.proc = nil
end

---Stops the process where it is, or lets it go on.
function Server:freeze() self.proc:kill("STOP") end
function Server:thaw() self.proc:kill("CONT") end

---Ends it and removes what it wrote. (yields)
function Server:stop()
  self:kill()
  fs.remove_tree(self.dir)
end

return M
