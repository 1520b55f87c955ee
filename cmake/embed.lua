-- Writes a C file with every file of the given folders as a named byte array. Modules of the application are compiled:
-- a start would spend a third of its time on their text. Line numbers and names stay in them.
-- Usage: luajit embed.lua SOURCE_DIR DESCRIPTOR_SET OUTPUT folder...

local source_dir, descriptor_set, output = arg[1], arg[2], arg[3]

local function read_all(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function list_files(folder)
  -- Build-time only, with paths that the build itself names.
  local pipe = assert(io.popen(string.format("cd '%s' && find '%s' -type f ! -name '.*' 2>/dev/null | LC_ALL=C sort",
    source_dir, folder)))
  local names = {}
  for name in pipe:lines() do names[#names + 1] = name end
  pipe:close()
  return names
end

local out = { '#include "embed/embed.h"\n\n' }
local entries = {}

local function add(name, text)
  local id = #entries
  local bytes = {}
  for i = 1, #text do
    bytes[i] = string.byte(text, i) .. (i % 32 == 0 and ",\n" or ",")
  end
  out[#out + 1] = string.format("static const unsigned char file_%d[] = {%s0};\n", id, table.concat(bytes))
  entries[#entries + 1] = string.format('    {"%s", (const char *)file_%d, %d},\n', name, id, #text)
end

-- What `require` loads, but for what isolates are given as text.
local function is_module(name)
  local is_ours = name:find("^lua/.*%.lua$") or name:find("^host/prelude/.*%.lua$")
  return is_ours and not name:find("^lua/macp/modes/inside/")
end

for i = 4, #arg do
  for _, name in ipairs(list_files(arg[i])) do
    local text = read_all(source_dir .. "/" .. name)
    add(name, is_module(name) and string.dump(assert(loadstring(text, "@" .. name))) or text)
  end
end
add("proto/macp.pb", read_all(descriptor_set))

out[#out + 1] = "\nconst struct embed_file embed_files[] = {\n" .. table.concat(entries) .. "};\n"
out[#out + 1] = string.format("const unsigned embed_file_count = %d;\n", #entries)

local file = assert(io.open(output, "wb"))
file:write(table.concat(out))
file:close()
