-- Who may include or require whom. The tables are the architecture: changing them needs a reason in the commit.

local load_all = require("spec.support.tree").texts

-- folder below host/ -> folders whose headers it may include (its own is always allowed)
local HOST = {
  base = {}, loop = { "base" }, http = { "base", "loop" }, pg = { "base", "loop" }, rpc = { "base", "loop" },
  redis = { "base", "loop" }, journal = { "base", "loop", "redis" }, proto = { "base" }, crypto = { "base" },
  embed = { "base" },
  lua = { "base", "loop", "http", "pg", "rpc", "redis", "journal", "proto", "crypto",
    "embed" },
  main = { "base", "loop", "lua" },
}

local SHARED = { "core" }
local ROLES = { "core", "config", "protocol", "auth", "telemetry", "http", "store", "modes" }

local PLANE = { "launcher", unpack(ROLES) }

-- folder (or file) below lua/macp/ -> what it may require (host.* and its own folder are always allowed)
local LUA = {
  core = {}, config = SHARED, protocol = SHARED, auth = SHARED, telemetry = SHARED, http = SHARED, store = SHARED,
  modes = { "core", "protocol" },
  plane = PLANE, runtime = ROLES,
  launcher = { "core", "protocol", "sdk" }, -- what the plane has sent for it; the plane itself never sends
  mcp = { "core", "config", "protocol", "auth", "telemetry", "http", "store", "modes", "plane" },
  sdk = { "core", "protocol", "modes" },
  dev = { "core", "config" },
  cmd = { "core", "config", "protocol", "auth", "telemetry", "http", "store", "modes", "plane", "runtime", "mcp",
    "sdk", "dev" },
  main = { "core", "config", "cmd" },
}

-- Libraries that may be required besides host.* and macp.*, by who needs them.
local LIBRARIES = { ["macp.cmd.spec"] = "^busted", ["*"] = "^cjson" }

-- Words of the protocol that the host must not know. (Database connections have sessions of their own.)
local FOREIGN_WORDS = { "session", "sessions", "envelope", "envelopes", "participant", "commitment", "canonical_event" }

local function allowed(table_of, from, to)
  if from == to then return true end
  for _, name in ipairs(table_of[from] or {}) do
    if name == to then return true end
  end
  return false
end

-- Violations of includes in host sources given as path -> text.
local function host_violations(sources)
  local found = {}
  for path, text in pairs(sources) do
    local from = path:match("^host/([%w_]+)/") or path:match("^host/([%w_]+)%.c$")
    for to in text:gmatch('#include "([%w_]+)/') do
      if not allowed(HOST, from, to) then found[#found + 1] = path .. " includes " .. to end
    end
    if from ~= "lua" and text:find("#include <lua", 1, true) then found[#found + 1] = path .. " includes lua.h" end
  end
  table.sort(found)
  return found
end

local function lua_violations(sources)
  local found = {}
  for path, text in pairs(sources) do
    local module = path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
    local from = module:match("^macp%.([%w_]+)")
    for required in text:gmatch('require%(?%s*"([%w_.]+)"') do
      local to = required:match("^macp%.([%w_]+)")
      local library = to == nil and not required:find("^host%.") and required ~= "macp." -- the start of a computed name
      local is_kit = required == "macp" and from == "modes" -- what scripts inside an isolate require
      if library and not is_kit and not required:find(LIBRARIES[module] or LIBRARIES["*"]) then
        found[#found + 1] = path .. " requires " .. required
      elseif to and not allowed(LUA, from, to) then
        found[#found + 1] = path .. " requires " .. required
      elseif from == "mcp" and required:find("^macp%.plane%.routes") then
        found[#found + 1] = path .. " requires " .. required
      end
    end
  end
  table.sort(found)
  return found
end

describe("layers of the host", function()
  it("include only what is below them", function()
    assert.same({}, host_violations(load_all({ "host" }, "%.[ch]$")))
  end)

  it("know every folder", function()
    for path in pairs(load_all({ "host" }, "%.[ch]$")) do
      local folder = path:match("^host/([%w_]+)/") or path:match("^host/([%w_]+)%.c$")
      assert.truthy(HOST[folder], path .. ": unknown folder, add it to the table")
    end
  end)

  it("say nothing of the protocol", function()
    for path, text in pairs(load_all({ "host" }, "%.[ch]$")) do
      local words = {}
      for word in text:lower():gmatch("[%a_]+") do words[word] = true end
      if path:find("^host/pg/") then words.session, words.sessions = nil, nil end
      for _, word in ipairs(FOREIGN_WORDS) do assert.is_nil(words[word], path .. " says " .. word) end
    end
  end)

  it("are checked by a rule that bites", function()
    assert.same({ "host/base/x.c includes loop", "host/http/y.c includes pg", "host/pg/z.c includes lua.h" },
      host_violations({
        ["host/base/x.c"] = '#include "loop/loop.h"\n', ["host/http/y.c"] = '#include "pg/pg_pool.h"\n',
        ["host/pg/z.c"] = "#include <lua.h>\n", ["host/lua/ok.c"] = '#include <lua.h>\n#include "pg/pg_pool.h"\n',
      }))
  end)
end)

describe("layers of the application", function()
  it("require only what is below them", function()
    assert.same({}, lua_violations(load_all({ "lua" }, "%.lua$")))
  end)

  it("know every folder", function()
    for path in pairs(load_all({ "lua" }, "%.lua$")) do
      local folder = path:match("^lua/macp/([%w_]+)")
      assert.truthy(LUA[folder], path .. ": unknown folder, add it to the table")
    end
  end)

  it("are checked by a rule that bites", function()
    assert.same({
      "lua/macp/core/a.lua requires macp.http.app", "lua/macp/core/a.lua requires socket",
      "lua/macp/mcp/b.lua requires macp.plane.routes.runs", "lua/macp/plane/c.lua requires macp.runtime.kernel",
    }, lua_violations({
      ["lua/macp/core/a.lua"] = 'require("macp.http.app") require("socket") require("macp.core.b")',
      ["lua/macp/mcp/b.lua"] = 'require("macp.plane.routes.runs") require "macp.plane.runs"',
      ["lua/macp/plane/c.lua"] = 'require("macp.runtime.kernel") require("host.pg")',
    }))
  end)
end)
