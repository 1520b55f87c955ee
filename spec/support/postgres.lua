-- A real PostgreSQL for specs: the one of TEST_DATABASE_URL, or a private cluster in a temporary directory.
-- Every call of database() makes a new, empty database in it.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")

local postgres = require("macp.dev.postgres")

local M = {}

---Starts a private cluster. Returns { conninfo(database), stop(), pid(), dir }; stop() removes everything. (yields)
function M.start(settings)
  local dir = assert(fs.temp_dir("macp-pg"))
  assert(fs.chmod(dir, 493)) -- 0755: the server's account must pass
  local cluster, err = postgres.start({ dir = dir, settings = settings })
  if not cluster then error(err.message, 2) end
  local stop = cluster.stop
  function cluster:stop()
    stop(self)
    fs.remove_tree(dir)
  end
  cluster.dir = dir
  return cluster
end

local function createdb(programs, conninfo, name)
  local proc = assert(child.spawn({
    file = programs .. "/psql", args = { "-X", "-q", "-d", conninfo, "-c", 'create database "' .. name .. '"' },
    stderr = "pipe", env = sys.environ(),
  }))
  local complaint = {}
  for line in function() return proc:read_line("stderr") end do complaint[#complaint + 1] = line end
  local status = proc:wait()
  proc:close()
  if status.code ~= 0 then error("create database: " .. table.concat(complaint, " ")) end
end

---A new empty database. Returns its connection string and a function that ends what was started. (yields)
function M.database(settings)
  local url = sys.env("TEST_DATABASE_URL")
  local name = "spec_" .. crypto.uuid4():gsub("-", "")
  local programs = assert(postgres.find_programs())
  if url and not settings then
    createdb(programs, url, name)
    if url:find("://") then return (url:gsub("/[^/?]*(%??[^?]*)$", "/" .. name .. "%1")), function() end end
    return (url:gsub("dbname=%S+", "") .. " dbname=" .. name), function() end
  end
  local cluster = M.start(settings)
  createdb(programs, cluster:conninfo(), name)
  return cluster:conninfo(name), function() cluster:stop() end, cluster
end

return M
