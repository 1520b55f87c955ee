-- Sandbox: the environment in which the files of a mode run. Everything here is read-only for them, `pairs` has an
-- order, and nothing reaches the clock, the outside or another session.

local native = native

local M = {}

-- Tables that belong to the kernel (c.participants, c.rules): the table functions refuse to change them.
local frozen = setmetatable({}, { __mode = "k" })
local FROZEN = {
  __newindex = function() error("this table is read-only", 2) end,
  __metatable = false,
}

---Makes a table of the kernel read-only for scripts, at every level. Overwriting an existing entry is found by
---M.verify.
function M.freeze(tbl)
  for _, value in next, tbl do
    if type(value) == "table" then M.freeze(value) end
  end
  frozen[tbl] = true
  return setmetatable(tbl, FROZEN)
end

local function check_writable(tbl)
  if frozen[tbl] then error("this table is read-only", 3) end
end

---Restores a frozen table from its copy; returns true when a script had changed it.
function M.restore(tbl, copy)
  local changed = false
  for key, value in next, copy do
    if type(value) == "table" then
      if type(tbl[key]) ~= "table" then
        rawset(tbl, key, M.freeze(M.copy(value)))
        changed = true
      elseif M.restore(tbl[key], value) then
        changed = true
      end
    elseif tbl[key] ~= value then
      rawset(tbl, key, value)
      changed = true
    end
  end
  for key in next, tbl do
    if copy[key] == nil then
      rawset(tbl, key, nil)
      changed = true
    end
  end
  return changed
end

---A deep copy of plain data; list marks are kept, aliases are not.
function M.copy(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, item in next, value do out[key] = M.copy(item) end
  return native.is_array(value) and native.array(out) or out
end

---A view of a table that scripts can read and not write.
function M.readonly(tbl, name)
  return setmetatable({}, {
    __index = tbl,
    __newindex = function(_, key)
      error(string.format("%s is read-only (assignment to '%s')", name, tostring(key)), 2)
    end,
    __metatable = false,
  })
end

---pairs in key order: numbers ascending, then strings by bytes.
M.pairs = native.pairs

local function safe_tostring(value)
  local kind = type(value)
  if kind == "table" or kind == "function" then
    error("tostring of a " .. kind .. " would print an address", 2)
  end
  return tostring(value)
end

local function safe_format(format, ...)
  for i = 1, select("#", ...) do
    local kind = type((select(i, ...)))
    if kind == "table" or kind == "function" then
      error(string.format("format cannot print a %s (argument %d)", kind, i + 1), 2)
    end
  end
  return string.format(format, ...)
end

local function safe_error(message)
  if type(message) ~= "string" then message = "error value is a " .. type(message) end
  error(message, 2)
end

local function make_string()
  local out = {}
  for _, name in ipairs({ "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse",
    "sub", "upper" }) do
    out[name] = string[name]
  end
  out.format = safe_format
  return out
end

local function make_table()
  return {
    concat = table.concat,
    insert = function(tbl, ...)
      check_writable(tbl)
      return table.insert(tbl, ...)
    end,
    remove = function(tbl, ...)
      check_writable(tbl)
      return table.remove(tbl, ...)
    end,
    sort = function(tbl, ...)
      check_writable(tbl)
      return table.sort(tbl, ...)
    end,
  }
end

local function make_math()
  local out = { huge = math.huge }
  for _, name in ipairs({ "abs", "ceil", "floor", "fmod", "max", "min", "modf", "sqrt" }) do out[name] = math[name] end
  return out
end

-- ("x"):rep(3) reaches the isolate's own string table through the string metatable; scripts see only this view.
local strings = make_string()

local BASE = {
  assert = assert, error = safe_error, ipairs = ipairs, pairs = M.pairs, select = select, tonumber = tonumber,
  tostring = safe_tostring, type = type, unpack = unpack, string = M.readonly(strings, "string"),
  table = M.readonly(make_table(), "table"), math = M.readonly(make_math(), "math"),
}

-- Why a familiar name is missing; anything else is simply not defined.
local ABSENT = {
  next = "use pairs, which has an order", pcall = "there is nothing to catch inside a mode", os = "a mode has no clock",
  io = "a mode has no I/O", print = "use macp.log", load = "a mode loads no code", loadstring = "a mode loads no code",
  coroutine = "a mode does not suspend", setmetatable = "state is plain data", getmetatable = "state is plain data",
  rawget = "use ordinary access", rawset = "use ordinary access", debug = "a mode does not look at the host",
  xpcall = "there is nothing to catch inside a mode", dofile = "use require 'lib.<name>'", _G = "there are no globals",
}

local function undefined(_, name)
  local why = ABSENT[name]
  error("'" .. tostring(name) .. "' does not exist inside a mode" .. (why and ": " .. why or ""), 2)
end

---An environment with its own `require` cache.
---@param kit table read-only kit
---@param read function(name) -> text, chunk name of lib/<name>.lua; nil when there is none
function M.environment(kit, read)
  local env, loaded, loading = {}, {}, {}
  local names = {}
  for name, value in next, BASE do names[name] = value end
  function names.require(name)
    if name == "macp" then return kit end
    if loaded[name] ~= nil then return loaded[name] end
    local lib = type(name) == "string" and name:match("^lib%.([%w_]+)$")
    if not lib then error("cannot require '" .. tostring(name) .. "': a mode may require 'macp' and 'lib.<name>'",
      2) end
    local text, chunk = read(lib)
    if text == nil then error("there is no file lib/" .. lib .. ".lua", 2) end
    if loading[name] then error("lib/" .. lib .. ".lua requires itself", 2) end
    loading[name] = true
    local value = M.run(text, chunk, env)
    loaded[name] = value == nil and true or value
    return loaded[name]
  end
  setmetatable(env, {
    __index = setmetatable(names, { __index = undefined }),
    __newindex = function(_, name) error("assignment to the undeclared global '" .. tostring(name) .. "'", 2) end,
    __metatable = false,
  })
  return env
end

---Compiles text (never bytecode) and runs it.
function M.run(text, chunk, env)
  if text:byte() == 27 then error(chunk:sub(2) .. ":1: this is bytecode, only source text is loaded", 0) end
  local fn, problem = native.compile(text, chunk, env)
  if fn == nil then error(problem, 0) end
  return fn()
end

return M
