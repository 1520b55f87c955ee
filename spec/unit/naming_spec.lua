-- Rules of the style guide that a program can check: sizes, names, places of things.

local tree = require("spec.support.tree")

local files, read = tree.files, tree.read

local MAX_LINES = { lua = 400, c = 600, h = 600 }

local function without_comments(text)
  text = text:gsub("%-%-%[(=*)%[.-%]%1%]", "")
  return (text:gsub("%-%-[^\n]*", ""))
end

-- Statements, not words: "select a from b", "insert into", "update t set", "delete from", in any layout.
local function looks_like_sql(text)
  text = without_comments(text):lower():gsub("%s+", " ")
  return text:find("select [%w_.*, ()]+ from [%w_]") or text:find("insert into [%w_]")
    or text:find("update [%w_]+ set [%w_]+ =") or text:find("delete from [%w_]")
end

local function collect(paths, check)
  local found = {}
  for _, path in ipairs(paths) do
    local problem = check(path, read(path))
    if problem then found[#found + 1] = path .. ": " .. problem end
  end
  return found
end

describe("source files", function()
  it("stay small enough to have one concern", function()
    assert.same({}, collect(files({ "lua", "host", "modes" }, "%.[lch][ua]*$"), function(path, text)
      local _, lines = text:gsub("\n", "")
      local limit = MAX_LINES[path:match("%.(%w+)$")]
      return limit and lines > limit and (lines .. " lines, at most " .. limit) or nil
    end))
  end)

  it("have lower-case names with underscores", function()
    assert.same({}, collect(files({ "lua", "host", "modes", "migrations", "spec" }, "%.%w+$"), function(path)
      local name = path:match("([^/]+)$")
      return not name:find("^[a-z0-9_.]+$") and path:find("%.lua$") and "name" or nil
    end))
  end)

  it("end with one line break and hold no tabs or trailing blanks", function()
    assert.same({}, collect(files({ "lua", "host" }, "%.[lch][ua]*$"), function(_, text)
      if not text:find("\n$") or text:find("\n\n$") then return "end of file" end
      if text:find("[ \t]\n") then return "trailing blanks" end
      if text:find("\t", 1, true) then return "a tab" end
    end))
  end)

  it("start by saying what they are", function()
    assert.same({}, collect(files({ "lua" }, "%.lua$"), function(_, text)
      return not text:find("^%-%- %S") and "no head comment" or nil
    end))
    assert.same({}, collect(files({ "host" }, "%.c$"), function(_, text)
      return not text:find("^/%* %S") and "no head comment" or nil
    end))
  end)
end)

describe("every text of the tree", function()
  local FOLDERS = { "lua", "host", "modes", "migrations", "proto", "spec", "examples", "scripts", "cmake", "docs" }
  -- Written in two parts, so that this file does not find itself.
  local LEFTOVERS = { "%f[%w]TO" .. "DO%f[%W]", "%f[%w]FIX" .. "ME%f[%W]", "<<<<<" .. "<< ", ">>>>>" .. ">> " }
  local ABSENT = { "[Hh]and" .. "%-?out%f[%W]" } -- papers that readers of the tree do not have
  local PLACES = { "[\"' ]/wo" .. "rk/", "/ho" .. "me/%l", "[\"' ]/ro" .. "ot/%l" }

  local function found(patterns)
    return collect(files(FOLDERS, ""), function(path, text)
      if path:find("/corpus/", 1, true) then return end
      for _, pattern in ipairs(patterns) do
        local hit = text:match(pattern)
        if hit then return "says " .. hit end
      end
    end)
  end

  it("leaves nothing for later and no conflict behind", function()
    assert.same({}, found(LEFTOVERS))
  end)

  it("cites nothing that its readers do not have", function()
    assert.same({}, found(ABSENT))
  end)

  it("names no place of one person's machine", function()
    assert.same({}, found(PLACES))
  end)

  it("is checked by patterns that bite", function()
    assert.truthy(("/* TO" .. "DO: later */"):find(LEFTOVERS[1]))
    assert.is_nil(("AUTODOC"):find(LEFTOVERS[1]))
    assert.truthy(("see the hand" .. "-out's part 5"):find(ABSENT[1]))
    assert.is_nil(("hand" .. " out numbers"):find(ABSENT[1]))
    assert.truthy(("cd /wo" .. "rk/tree"):find(PLACES[1]))
    assert.is_nil(("host/wo" .. "rk/x"):find(PLACES[1]))
  end)
end)

describe("places of things", function()
  it("keep SQL in the store", function()
    local paths = {}
    for _, path in ipairs(files({ "lua" }, "%.lua$")) do
      if not path:find("^lua/macp/store/") and not path:find("^lua/macp/dev/") then paths[#paths + 1] = path end
    end
    assert.same({}, collect(paths, function(_, text) return looks_like_sql(text) and "holds SQL" or nil end))
  end)

  it("recognise SQL when they see it", function()
    assert.truthy(looks_like_sql('local A = "select id, name from runs where id = $1"'))
    assert.truthy(looks_like_sql('local A = [[\n insert  into\n runs (id) values ($1)]]'))
    assert.truthy(looks_like_sql("update runs set status = $1"))
    assert.is_nil(looks_like_sql("-- select a from b\nlocal x = 1"))
    assert.is_nil(looks_like_sql('log.info("selected items from the list")'))
  end)

  it("start no other program through a shell and use no raw memory", function()
    assert.same({}, collect(files({ "lua" }, "%.lua$"), function(_, text)
      local code = without_comments(text)
      for _, word in ipairs({ "os%.execute", "io%.popen", "require%(?%s*[\"']ffi[\"']", "os%.exit" }) do
        if code:find(word) then return "uses " .. word:gsub("%%", "") end
      end
    end))
  end)

  it("number migrations without gaps", function()
    local expected = 1
    for _, path in ipairs(files({ "migrations" }, "%.sql$")) do
      local number = path:match("([0-9]+)_[a-z0-9_]+%.sql$")
      assert.equal(string.format("%04d", expected), number, path)
      expected = expected + 1
    end
  end)

  it("give every command a summary and help", function()
    for _, name in ipairs(require("macp.main").COMMANDS) do
      local ok, command = pcall(require, "macp.cmd." .. name)
      if ok then
        assert.truthy(command.summary and command.summary:find("%.$"), name .. " needs a summary sentence")
        assert.truthy(command.help and command.help:find("macp " .. name, 1, true), name .. " needs examples")
        assert.truthy(command.run or command.verbs, name .. " does nothing")
      end
    end
  end)

  it("read every setting somewhere", function()
    local code = {}
    for _, path in ipairs(files({ "lua" }, "%.lua$")) do
      if not path:find("^lua/macp/config/%l+%.lua$") or path:find("checks%.lua$") then code[#code + 1] = read(path) end
    end
    code = table.concat(code, "\n")
    for _, setting in ipairs(require("macp.config").settings()) do
      local name = setting.key:match("%.([%w_]+)$")
      assert.truthy(code:find("%." .. name .. "%f[^%w_]"), setting.key .. " is documented but nothing reads it")
    end
  end)
end)
