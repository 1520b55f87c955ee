-- What modules offer to others: each name has a user, and says what it is for.

local load_all = require("spec.support.tree").texts

-- Files that other code finds by listing a folder or by a name put together at run time.
local FOUND_BY_NAME = {
  "^macp%.main$", "^macp%.cmd%.", "^macp%.config%.", "^macp%.plane%.routes%.", "^macp%.modes%.stubs%.",
}

local function lua_code(text)
  text = text:gsub("%-%-%[(=*)%[.-%]%1%]", "")
  return (text:gsub("%-%-[^\n]*", ""))
end

local function c_code(text) return (text:gsub("/%*.-%*/", "")) end

local function sorted(list)
  table.sort(list)
  return list
end

-- word -> in how many of the files, and path -> word -> how often
local function count_words(sources, code)
  local files, counts = {}, {}
  for path, text in pairs(sources) do
    local own = {}
    for word in code(text):gmatch("[%a_][%w_]*") do
      if own[word] == nil then files[word] = (files[word] or 0) + 1 end
      own[word] = (own[word] or 0) + 1
    end
    counts[path] = own
  end
  return files, counts
end

-- Names that a Lua module exports, in its own text.
local function lua_exports(text)
  local names = {}
  for name in text:gmatch("\nfunction [%w_]+[.:]([%w_]+)%s*%(") do names[#names + 1] = name end
  for name in text:gmatch("\nM%.([%w_]+) *=[^=]") do names[#names + 1] = name end
  for name in (text:match("\nlocal M = (%b{})") or ""):gmatch("([%w_]+) *=[^=]") do names[#names + 1] = name end
  return names
end

-- Exported names that stand nowhere but at their definition.
local function unused_lua(sources)
  local found = {}
  local files, counts = count_words(sources, lua_code)
  for path, text in pairs(sources) do
    for _, name in ipairs(path:find("^lua/") and lua_exports(lua_code(text)) or {}) do
      if files[name] == 1 and counts[path][name] == 1 then found[#found + 1] = path .. ": " .. name end
    end
  end
  return sorted(found)
end

-- Modules that no other module of the program requires.
local function unused_modules(sources)
  local found, all = {}, {}
  for path, text in pairs(sources) do
    if not path:find("^spec/") then all[#all + 1] = lua_code(text) end
  end
  all = table.concat(all, "\n")
  for path in pairs(sources) do
    local module = path:match("^lua/(.*)%.lua$")
    module = module and module:gsub("/init$", ""):gsub("/", ".")
    local is_used = module == nil or all:find('"' .. module .. '"', 1, true)
    for _, pattern in ipairs(FOUND_BY_NAME) do is_used = is_used or module:find(pattern) end
    -- A name put together from its folder and a word: "macp.plane.announce." .. kind
    is_used = is_used or all:find('"' .. module:match("^(.*%.)[^.]+$") .. '"', 1, true)
    if not is_used then found[#found + 1] = module end
  end
  return sorted(found)
end

-- Functions that headers declare for nobody: only the file that defines them knows them, too.
local function unused_c(sources)
  local found = {}
  local files, counts = count_words(sources, c_code)
  for path, text in pairs(sources) do
    local code = path:find("^host/.*%.h$") and c_code(text) or ""
    for name in code:gmatch("\n[%a][%w_ ]*[ *]([%l][%w_]*)%(") do
      local source = counts[path:gsub("%.h$", ".c")] or {}
      local is_used_here = counts[path][name] > 1 -- by a macro or an inline function
      if not is_used_here and files[name] <= (source[name] and 2 or 1) then found[#found + 1] = path .. ": " .. name end
    end
  end
  return sorted(found)
end

-- Functions of modules without a doc comment.
local function undocumented(sources)
  local found = {}
  for path, text in pairs(sources) do
    local before = ""
    for line in text:gmatch("[^\n]*") do
      local name = line:match("^function (M%.[%w_]+)%s*%(")
      if name and not before:find("^%-%-") then found[#found + 1] = path .. ": " .. name end
      if line ~= "" then before = line end
    end
  end
  return sorted(found)
end

describe("exported names", function()
  it("have a user in Lua", function()
    assert.same({}, unused_lua(load_all({ "lua", "spec", "host/prelude", "examples" }, "%.lua$")))
  end)

  it("have a user in C", function()
    assert.same({}, unused_c(load_all({ "host", "spec" }, "%.[ch]$")))
  end)

  it("are in modules that the program requires", function()
    assert.same({}, unused_modules(load_all({ "lua", "host/prelude" }, "%.lua$")))
  end)

  it("say what their functions do", function()
    assert.same({}, undocumented(load_all({ "lua" }, "%.lua$")))
  end)

  it("are looked for by rules that bite", function()
    assert.same({ "lua/macp/a.lua: LIMIT", "lua/macp/a.lua: idle" }, unused_lua({
      ["lua/macp/a.lua"] = "\nlocal M = { LIMIT = 1, SIZE = 2 }\nfunction M.idle() end\nfunction M.busy() end -- idle",
      ["spec/a_spec.lua"] = "a.busy(a.SIZE)",
    }))
    assert.same({ "macp.a" }, unused_modules({
      ["lua/macp/a.lua"] = "", ["lua/macp/b/init.lua"] = "", ["lua/macp/d/e.lua"] = "", ["lua/macp/cmd/x.lua"] = "",
      ["lua/macp/main.lua"] = 'require("macp.b") require("macp.d." .. name) -- "macp.a"',
    }))
    assert.same({ "host/x.h: x_idle" }, unused_c({
      ["host/x.h"] = "\nint x_idle(void);\nstruct x *x_busy(int n);\n", ["host/x.c"] = "int x_idle(void) {}\n x_busy",
      ["host/y.c"] = "x_busy(1); /* x_idle */",
    }))
    assert.same({ "a: M.bare" }, undocumented({ a = "---Does it.\nfunction M.told() end\n\nfunction M.bare()\nend\n" }))
  end)
end)
