-- What the README of each folder, and each guide, says of files, commands and settings is so.

local revision = require("macp.modes.revision")
local tree = require("spec.support.tree")

local path = require("pl.path")

-- Folders whose README has a row for each folder in them.
local MAPS = { "host", "lua/macp", "modes", "spec" }

-- Words in the form of variables that are no settings of the program: they steer tests, other programs, scripts.
local FOREIGN = {
  MACP_ROOT = true, MACP_FAULT = true, MACP_SANITIZE = true, MACP_REDIS = true, MACP_FUZZ = true,
  MACP_CONFORMANCE = true,
}

local function readmes()
  local found = tree.texts({ "examples", "host", "lua", "migrations", "modes", "proto", "scripts", "spec", "web" },
    "README%.md$")
  for file, text in pairs(tree.texts({ "docs" }, "%.md$")) do found[file] = text end
  found["README.md"] = tree.read("README.md")
  return found
end

describe("the READMEs", function()
  it("link to what is there", function()
    local missing = {}
    for file, text in pairs(readmes()) do
      for target in text:gmatch("%]%(([^)#]+)%)") do
        if not target:find("^https?:") and not path.exists(path.join(path.dirname(file), target)) then
          missing[#missing + 1] = file .. ": " .. target
        end
      end
    end
    assert.same({}, missing)
  end)

  it("have rows for what is there, and for nothing else", function()
    local wrong = {}
    for file, text in pairs(readmes()) do
      for row in text:gmatch("\n| *(`[^|]+) |") do
        for name in row:gmatch("`([%w_./*-]+)`") do
          local target = path.join(path.dirname(file), name)
          local is_path = name:find("/", 1, true) and not name:find("^%.?/") or name:find("%.%l+$")
          if is_path and not name:find("*", 1, true) and not path.exists(target) and file ~= "modes/README.md" then
            wrong[#wrong + 1] = file .. ": " .. name
          end
        end
      end
    end
    assert.same({}, wrong)
  end)

  it("have a row for each folder beside them", function()
    local missing = {}
    for _, dir in ipairs(MAPS) do
      local file = dir == "lua/macp" and "lua/README.md" or dir .. "/README.md"
      local text = tree.read(file)
      for _, found in ipairs(require("pl.dir").getdirectories(dir)) do
        local name = path.basename(found)
        if not text:find("`[%w_/]*" .. name .. "/?`") then missing[#missing + 1] = file .. ": " .. name end
      end
    end
    assert.same({}, missing)
  end)

  it("name settings that exist", function()
    local known = {}
    for _, setting in ipairs(require("macp.config").settings()) do
      for _, name in ipairs(type(setting.env) == "table" and setting.env or { setting.env }) do known[name] = true end
    end
    local unknown = {}
    for file, text in pairs(readmes()) do
      for name in text:gmatch("%f[%w_]MACP_[A-Z_]+%f[^%w_]") do
        if not known[name] and not FOREIGN[name] then unknown[#unknown + 1] = file .. ": " .. name end
      end
    end
    assert.same({}, unknown)
  end)

  it("name commands that exist", function()
    local main, unknown = require("macp.main"), {}
    local commands = require("macp.core.tables").set(main.COMMANDS)
    for file, text in pairs(readmes()) do
      for name, verb in text:gmatch("`[^`\n]-%f[%w]macp (%l+) ?([%l]*)") do
        local command = commands[name] and require("macp.cmd." .. name)
        local verbs = command and command.verbs and require("macp.core.tables").set(command.verbs)
        if not command or (verbs and verb ~= "" and not verbs[verb]) then
          unknown[#unknown + 1] = file .. ": macp " .. name .. " " .. verb
        end
      end
    end
    assert.same({}, unknown)
  end)

  it("show a mode that loads", function()
    local source = tree.read("modes/README.md"):match("## By example\n\n```lua\n(.-)```")
    local rev, problems = revision.build({ ["mode.lua"] = source }, { root = "" })
    assert.same({}, problems)
    rev:close()
  end)
end)
