-- The files of a serialized FileDescriptorSet as they are: their bytes by name, and which of them defines a symbol. Reads
-- the few fields of descriptor.proto that this takes.

local LENGTH_DELIMITED = 2
local WIDTH = { [1] = 8, [5] = 4 } -- of the fixed wire types
-- Numbers of fields, as in descriptor.proto.
local SET_FILE = 1
local FILE = { NAME = 1, PACKAGE = 2, DEPENDENCY = 3, MESSAGE = 4, ENUM = 5, SERVICE = 6 }
local MESSAGE = { NAME = 1, FIELD = 2, NESTED = 3, ENUM = 4, ONEOF = 8 }
local NAME, ENUM_VALUE, SERVICE_METHOD = 1, 2, 2

local Files = {}
Files.__index = Files

local M = {}

-- A base-128 number at a position; returns it and the position behind.
local function varint(bytes, at)
  local value, scale = 0, 1
  while true do
    local byte = bytes:byte(at)
    if byte == nil then error("the descriptor set ends in a number") end
    value, at = value + byte % 128 * scale, at + 1
    if byte < 128 then return value, at end
    scale = scale * 128
  end
end

-- Calls fn(number, bytes) for every length-delimited field of a message.
local function each(bytes, fn)
  local at = 1
  while at <= #bytes do
    local tag, size
    tag, at = varint(bytes, at)
    local wire = tag % 8
    if wire == LENGTH_DELIMITED then
      size, at = varint(bytes, at)
      if at + size - 1 > #bytes then error("the descriptor set ends in a field") end
      fn((tag - wire) / 8, bytes:sub(at, at + size - 1))
      at = at + size
    elseif WIDTH[wire] then
      at = at + WIDTH[wire]
    else
      at = select(2, varint(bytes, at))
    end
  end
end

-- The first field of a number as text, "" when it is absent.
local function text(bytes, number)
  local found
  each(bytes, function(field, value)
    if field == number and found == nil then found = value end
  end)
  return found or ""
end

local function join(scope, name) return scope == "" and name or scope .. "." .. name end

-- Values of an enumeration are siblings of it, in names.
local function add_enum(symbols, scope, bytes, file)
  symbols[join(scope, text(bytes, NAME))] = file
  each(bytes, function(number, value)
    if number == ENUM_VALUE then symbols[join(scope, text(value, NAME))] = file end
  end)
end

local function add_message(symbols, scope, bytes, file)
  local name = join(scope, text(bytes, MESSAGE.NAME))
  symbols[name] = file
  each(bytes, function(number, value)
    if number == MESSAGE.NESTED then
      add_message(symbols, name, value, file)
    elseif number == MESSAGE.ENUM then
      add_enum(symbols, name, value, file)
    elseif number == MESSAGE.FIELD or number == MESSAGE.ONEOF then
      symbols[join(name, text(value, NAME))] = file
    end
  end)
end

local function add_service(self, scope, bytes, file)
  local name = join(scope, text(bytes, NAME))
  self.symbols[name] = file
  self.services[#self.services + 1] = name
  each(bytes, function(number, value)
    if number == SERVICE_METHOD then self.symbols[join(name, text(value, NAME))] = file end
  end)
end

local function add_file(self, bytes)
  local file = { name = text(bytes, FILE.NAME), package = text(bytes, FILE.PACKAGE), bytes = bytes, needs = {} }
  each(bytes, function(number, value)
    if number == FILE.DEPENDENCY then
      file.needs[#file.needs + 1] = value
    elseif number == FILE.MESSAGE then
      add_message(self.symbols, file.package, value, file)
    elseif number == FILE.ENUM then
      add_enum(self.symbols, file.package, value, file)
    elseif number == FILE.SERVICE then
      add_service(self, file.package, value, file)
    end
  end)
  self.by_name[file.name], self.packages[file.package] = file, true
  return file
end

---@param set string serialized FileDescriptorSet, as protoc --include_imports writes it
---@return table files with `services`, full names in the order of the files
function M.new(set)
  local self = M.empty()
  each(set, function(number, bytes)
    if number == SET_FILE then add_file(self, bytes) end
  end)
  return self
end

---No files, to add some to.
function M.empty() return setmetatable({ by_name = {}, packages = {}, symbols = {}, services = {} }, Files) end

---A file of its own beside those of the set. What is defined already stays as it is.
---@param bytes string serialized FileDescriptorProto that imports nothing
function Files:add(bytes)
  local other = M.empty()
  local file = add_file(other, bytes)
  for symbol in pairs(other.symbols) do
    if self.symbols[symbol] then return end
  end
  self.by_name[file.name], self.packages[file.package] = file, true
  for symbol in pairs(other.symbols) do self.symbols[symbol] = file end
end

-- A file and what it imports, each once.
local function with_imports(self, file)
  local list, seen = {}, {}
  local function add(one)
    if one == nil or seen[one] then return end
    seen[one] = true
    list[#list + 1] = one.bytes
    for _, name in ipairs(one.needs) do add(self.by_name[name]) end
  end
  add(file)
  return list
end

---The file of a name and what it imports, directly or not: serialized FileDescriptorProtos, the file first.
---@param name string e.g. "macp/v1/core.proto"
---@return string[]|nil
function Files:file(name) return self.by_name[name] and with_imports(self, self.by_name[name]) end

---The same for the file that defines a symbol: a message, field, enumeration, value, service or method.
---@param symbol string full name, e.g. "macp.v1.Envelope"
---@return string[]|nil
function Files:defining(symbol) return self.symbols[symbol] and with_imports(self, self.symbols[symbol]) end

---Whether a symbol is a message or an enumeration, or anything else that is defined.
function Files:has(symbol) return self.symbols[symbol] ~= nil end

---Whether a file is of this package.
function Files:has_package(name) return self.packages[name] == true end

return M
