-- What examples/deploy promises: settings that exist, a unit that systemd takes, a configuration that starts.

local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")

local config = require("macp.config")
local certificates = require("spec.support.certificates")
local program = require("spec.support.program")
local tables = require("macp.core.tables")

local DIR = "examples/deploy"

local function read(name) return assert(fs.read(DIR .. "/" .. name)) end

-- NAME=value lines of the environment file.
local function environment()
  local env = {}
  for line in read("runtime.env"):gmatch("[^\n]+") do
    local name, value = line:match("^([%u%d_]+)=(.*)$")
    if name then env[name] = value
    else assert.truthy(line:find("^#"), "not a setting: " .. line) end
  end
  return env
end

local function known_variables()
  local names = {}
  for _, setting in ipairs(config.settings()) do
    for _, name in ipairs(type(setting.env) == "table" and setting.env or { setting.env }) do names[name] = true end
  end
  return names
end

describe("examples/deploy", function()
  local dir

  setup(function()
    dir = assert(fs.temp_dir("macp-deploy-"))
    certificates.make(dir)
  end)
  teardown(function() fs.remove_tree(dir) end)

  it("names only variables that the program has", function()
    local known, found = known_variables(), 0
    for _, name in ipairs({ "runtime.env", "README.md", "Containerfile", "macp-runtime.service" }) do
      for variable in read(name):gmatch("%f[%u]MACP_[%u_]+") do
        found = found + 1
        assert.truthy(known[variable], name .. " names " .. variable)
      end
    end
    assert.is_true(found > 10)
  end)

  it("starts as it is, with certificates in place", function()
    local env = environment()
    for name, value in pairs(env) do env[name] = value:gsub("^/etc/macp/tls", dir):gsub("^/etc/macp", DIR) end
    env.MACP_DATA_DIR, env.MACP_BIND_ADDR, env.MACP_METRICS_ADDR = dir .. "/data", "127.0.0.1:0", "127.0.0.1:0"
    env.MACP_ALLOW_INSECURE, env.MACP_LOG_LEVEL, env.MACP_MEMORY_ONLY = false, "info", false
    local checked = program.start({ args = { "runtime", "--check" }, env = env })
    assert.equal(0, checked:wait(20000).code, checked:output())
    local running = program.start({ args = { "runtime" }, env = env })
    running:wait_line("(process%.ready)")
    running:kill("HUP")
    running:wait_line("(roles%.reloaded)")
    running:kill("TERM")
    assert.equal(0, running:wait(20000).code, running:output())
  end)

  local analyze = "/usr/bin/systemd-analyze"
  local with_systemd = fs.stat(analyze) and it or pending
  with_systemd("has a unit that systemd takes", function()
    local unit = dir .. "/macp-runtime.service"
    assert(fs.write(unit, (read("macp-runtime.service"):gsub("/usr/bin/macp", sys.executable()))))
    local proc = assert(child.spawn({ file = analyze, args = { "verify", unit }, stdout = "pipe", stderr = "pipe" }))
    local said = {}
    for line in function() return proc:read_line("stderr") end do said[#said + 1] = line end
    local status = proc:wait()
    proc:close()
    assert.equal(0, status.code, table.concat(said, "\n"))
    for _, line in ipairs(said) do assert.is_nil(line:find("macp-runtime", 1, true), line) end
  end)

  it("has a unit that gives the program time to drain, and reloads with HUP", function()
    local unit, drain = read("macp-runtime.service"), tonumber(environment().MACP_SHUTDOWN_DRAIN_SECS)
    assert.is_true(tonumber(unit:match("\nTimeoutStopSec=(%d+)\n")) > drain)
    assert.truthy(unit:find("\nExecReload=/bin/kill -HUP $MAINPID\n", 1, true))
    assert.truthy(unit:find("\nRestartPreventExitStatus=2 3\n", 1, true))
    assert.is_nil(unit:find("\nMemoryDenyWriteExecute"))
  end)

  local on_debian = fs.stat("/usr/bin/dpkg-query") and it or pending
  on_debian("has an image with every library that the program is linked to", function()
    local proc = assert(child.spawn({ file = "/usr/bin/ldd", args = { sys.executable() }, stdout = "pipe" }))
    local paths = {}
    for line in function() return proc:read_line("stdout") end do
      paths[#paths + 1] = line:match("=> (/%S+)")
    end
    assert.equal(0, proc:wait().code)
    proc:close()
    local packages = tables.set({})
    for word in read("Containerfile"):match("\nFROM debian:12%-slim\n(.*)$"):gmatch("%S+") do packages[word] = true end
    local linked = { uv = "libuv1", luajit = "libluajit-5.1-2", grpc = "libgrpc29", pq = "libpq5", curl = "libcurl4",
      crypto = "libssl3", cjose = "libcjose0", ["protobuf-c"] = "libprotobuf-c1", hiredis = "libhiredis0.14",
      jemalloc = "libjemalloc2" }
    local seen = 0
    for _, path in ipairs(paths) do
      for name, package in pairs(linked) do
        if path:find("/lib" .. name .. "[-.]") then
          seen = seen + 1
          assert.truthy(packages[package], path .. " needs " .. package)
        end
      end
    end
    assert.is_true(seen >= 8, "only " .. seen .. " known libraries") -- hiredis and jemalloc are optional
  end)
end)
