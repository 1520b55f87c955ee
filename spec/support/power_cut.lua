-- What a power cut may leave of everything that a program wrote below a directory: its system calls are recorded (by
-- strace, with the bytes), and the directory is made again as it may be after any of them. The real program is recorded,
-- whatever threads and libraries write; host/power_disk.h does the same within a test program, at every call.
--
-- What was flushed is there; of each later change all, nothing or, of a write, any of its sectors. Names likewise:
-- what was made, renamed or removed in a directory is there for sure when that directory was flushed afterwards.

local fs = require("host.fs")

local SECTOR, PAGE = 512, 4096
local ZEROS = ("\0"):rep(PAGE)
local MAX_LOG = 1024 * 1024 * 1024
local CALLS = "openat,open,creat,close,dup,dup2,dup3,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,"
  .. "fallocate,fsync,fdatasync,sync_file_range,lseek,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,"
  .. "link,linkat,copy_file_range,sendfile,mmap"

local M = {}

---What stands before a command of a shell so that its calls are recorded. See syscalls.prefix.
function M.prefix(path)
  return string.format("env ASAN_OPTIONS=\"$ASAN_OPTIONS:detect_leaks=0\" strace -D -f -qq -ttt -T -xx -s 16777216"
    .. " --seccomp-bpf -e signal=none -e trace=%s -o '%s'", CALLS, path)
end

-- --- the calls ---

local function unhex(text) return (text:gsub("\\x(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)) end

-- The finished calls: { name =, args = text, result = number, begun =, ended = seconds }, by their ends; a close by its
-- beginning, since another thread may be given the number of the file before the close has ended.
local function read_calls(path)
  local calls, begun = {}, {}
  for line in (assert(fs.read(path, MAX_LOG))):gmatch("[^\n]+") do
    local thread, at, text = line:match("^(%d+)%s+(%d+%.%d+) (.*)$")
    local head = text and text:match("^(.-) <unfinished %.%.%.>$")
    local tail = text and text:match("^<%.%.%. [%w_]+ resumed>(.*)$")
    if head then
      begun[thread] = { head, tonumber(at) }
    elseif text then
      local start, ended = tonumber(at), nil
      if tail and begun[thread] then
        text, start, ended = begun[thread][1] .. tail, begun[thread][2], tonumber(at)
      end
      local name, args, result, took = text:match("^([%w_]+)%((.*)%)%s+= (%-?%w+)[^<]*<(%d+%.%d+)>$")
      if name then
        ended = ended or start + tonumber(took)
        calls[#calls + 1] = { name = name, args = args, result = tonumber(result) or -1, begun = start, ended = ended,
          at = name == "close" and start or ended, line = #calls }
      end
    end
  end
  table.sort(calls, function(a, b) return a.at < b.at or (a.at == b.at and a.line < b.line) end)
  return calls
end

-- --- what they did: events on files and names ---

local Recording = {}
Recording.__index = Recording

local function joined(self, at, path)
  if path:sub(1, 1) == "/" then return path end
  local base = at == "AT_FDCWD" and "" or self.dirs[tonumber(at)]
  return base and base .. "/" .. path or ""
end

-- The path below the directory; nil: it is somewhere else.
local function below(self, path)
  if path == self.root then return "" end
  return path:sub(1, #self.root + 1) == self.root .. "/" and path:sub(#self.root + 2) or nil
end

local function add(self, kind, call, fields)
  fields.kind, fields.begun, fields.ended = kind, call.begun, call.ended
  self.events[#self.events + 1] = fields
end

local function parent_of(path) return path:match("^(.*)/[^/]*$") or "" end

local function opened(self, call, path, flags)
  local full, fd = path, call.result
  self.files[fd], self.dirs[fd] = nil, nil
  local name = below(self, full)
  if name == nil then return end
  if flags:find("O_DIRECTORY") or self.names[name] == "dir" then
    self.dirs[fd] = full
    return
  end
  local file = self.names[name]
  if file == nil then
    if not flags:find("O_CREAT") then
      self.dirs[fd] = full -- one that was there before: a directory
      return
    end
    file = #self.sizes + 1
    self.sizes[file], self.names[name] = 0, file
    add(self, "create", call, { name = name, file = file, parents = { parent_of(name) } })
  elseif flags:find("O_TRUNC") then
    self.sizes[file] = 0
    add(self, "size", call, { file = file, size = 0 })
  end
  self.files[fd] = { file = file, at = 0, appends = flags:find("O_APPEND") ~= nil }
end

local function wrote(self, call, open, offset, bytes)
  if call.result <= 0 then return end
  bytes = bytes:sub(1, call.result)
  assert(#bytes == call.result, "a write was not recorded whole")
  self.sizes[open.file] = math.max(self.sizes[open.file], offset + #bytes)
  add(self, "write", call, { file = open.file, at = offset, bytes = bytes })
end

local function moved(self, call, from, to)
  local old, new = below(self, from), below(self, to)
  if old == nil or new == nil then return end
  local names = {}
  for name, file in pairs(self.names) do
    local rest = (name == old and "") or (name:sub(1, #old + 1) == old .. "/" and name:sub(#old + 1)) or nil
    if rest then names[new .. rest] = file else names[name] = names[name] or file end
  end
  self.names = names
  add(self, "rename", call, { name = old, to = new, parents = { parent_of(old), parent_of(new) } })
end

local HEX = '"([^"]*)"'

local handlers = {
  openat = function(self, call)
    local at, path, flags = call.args:match("^([%w_]+), " .. HEX .. ", (.*)$")
    opened(self, call, joined(self, at, unhex(path)), flags)
  end,
  open = function(self, call)
    local path, flags = call.args:match("^" .. HEX .. ", (.*)$")
    opened(self, call, unhex(path), flags)
  end,
  close = function(self, call)
    local fd = tonumber(call.args)
    self.files[fd], self.dirs[fd] = nil, nil
  end,
  write = function(self, call)
    local fd, text = call.args:match("^(%d+), " .. HEX)
    local open = fd and self.files[tonumber(fd)]
    if open == nil then return end
    if open.appends then open.at = self.sizes[open.file] end
    wrote(self, call, open, open.at, unhex(text))
    open.at = open.at + math.max(call.result, 0)
  end,
  pwrite64 = function(self, call)
    local fd, text, at = call.args:match("^(%d+), " .. HEX .. ", %d+, (%d+)$")
    local open = fd and self.files[tonumber(fd)]
    if open then wrote(self, call, open, tonumber(at), unhex(text)) end
  end,
  lseek = function(self, call)
    local open = self.files[tonumber(call.args:match("^(%d+)"))]
    if open then open.at = call.result end
  end,
  ftruncate = function(self, call)
    local fd, size = call.args:match("^(%d+), (%d+)$")
    local open = self.files[tonumber(fd)]
    if open == nil then return end
    self.sizes[open.file] = tonumber(size)
    add(self, "size", call, { file = open.file, size = tonumber(size) })
  end,
  fallocate = function(self, call)
    local fd, mode, at, len = call.args:match("^(%d+), ([%w_|]+), (%d+), (%d+)$")
    local open = self.files[tonumber(fd)]
    if open == nil or mode ~= "0" then return end -- others do not change what is read
    local size = math.max(self.sizes[open.file], tonumber(at) + tonumber(len))
    self.sizes[open.file] = size
    add(self, "size", call, { file = open.file, size = tonumber(at) + tonumber(len), is_least = true })
  end,
  fsync = function(self, call)
    local fd = tonumber(call.args)
    if self.files[fd] then add(self, "sync", call, { file = self.files[fd].file }) end
    if self.dirs[fd] then add(self, "sync_dir", call, { dir = below(self, self.dirs[fd]) }) end
  end,
  rename = function(self, call)
    local from, to = call.args:match("^" .. HEX .. ", " .. HEX .. "$")
    moved(self, call, unhex(from), unhex(to))
  end,
  renameat = function(self, call)
    local from_at, from, to_at, to = call.args:match("^([%w_]+), " .. HEX .. ", ([%w_]+), " .. HEX)
    moved(self, call, joined(self, from_at, unhex(from)), joined(self, to_at, unhex(to)))
  end,
  unlinkat = function(self, call)
    local at, path = call.args:match("^([%w_]+), " .. HEX)
    local name = below(self, joined(self, at, unhex(path)))
    if name == nil then return end
    self.names[name] = nil
    add(self, "remove", call, { name = name, parents = { parent_of(name) } })
  end,
  unlink = function(self, call)
    local name = below(self, unhex(call.args:match(HEX)))
    if name == nil then return end
    self.names[name] = nil
    add(self, "remove", call, { name = name, parents = { parent_of(name) } })
  end,
  mkdirat = function(self, call)
    local at, path = call.args:match("^([%w_]+), " .. HEX)
    local name = below(self, joined(self, at, unhex(path)))
    if name == nil then return end
    self.names[name] = "dir"
    add(self, "mkdir", call, { name = name, parents = { parent_of(name) } })
  end,
  mkdir = function(self, call)
    local name = below(self, unhex(call.args:match(HEX)))
    if name == nil then return end
    self.names[name] = "dir"
    add(self, "mkdir", call, { name = name, parents = { parent_of(name) } })
  end,
  mmap = function(self, call)
    local fd = call.args:match("MAP_SHARED[^,]*, (%d+)")
    local writes = call.args:find("PROT_WRITE", 1, true)
    assert(not (fd and writes and self.files[tonumber(fd)]), "a file is written through memory, which is not recorded")
  end,
}
handlers.fdatasync, handlers.renameat2, handlers.rmdir = handlers.fsync, handlers.renameat, handlers.unlink

-- A call on one of our files that is not understood must not pass unnoticed.
local function unknown(self, call)
  local fd = tonumber(call.args:match("^(%d+)"))
  assert(not self.files[fd] or call.name == "sync_file_range", call.name .. " is not understood")
end

---What a program did below `root`, which was empty, from its recorded calls. (yields)
function M.read(path, root)
  local self = setmetatable({ root = root, events = {}, files = {}, dirs = {}, names = { [""] = "dir" }, sizes = {} },
    Recording)
  for _, call in ipairs(read_calls(path)) do
    if call.result >= 0 then (handlers[call.name] or unknown)(self, call) end
  end
  return self
end

-- --- what is left ---

-- What is in a file: its size and pages; those that were never written are zeros.
local function new_content() return { size = 0, pages = {} } end

local function resize(content, size)
  if size < content.size then
    local last = math.floor(size / PAGE)
    for page in pairs(content.pages) do
      if page > last then content.pages[page] = nil end
    end
    if content.pages[last] then
      local kept = content.pages[last]:sub(1, size - last * PAGE)
      content.pages[last] = kept .. ("\0"):rep(PAGE - #kept)
    end
  end
  content.size = size
end

local function put(content, at, bytes)
  content.size = math.max(content.size, at + #bytes)
  local done = 0
  while done < #bytes do
    local page = math.floor((at + done) / PAGE)
    local offset = at + done - page * PAGE
    local len = math.min(PAGE - offset, #bytes - done)
    local old = content.pages[page] or ZEROS
    content.pages[page] = old:sub(1, offset) .. bytes:sub(done + 1, done + len) .. old:sub(offset + len + 1)
    done = done + len
  end
end

local function bytes_of(content)
  if content == nil then return "" end
  local list = {}
  for page = 0, math.ceil(content.size / PAGE) - 1 do list[page + 1] = content.pages[page] or ZEROS end
  return table.concat(list):sub(1, content.size)
end

local function put_torn(content, at, bytes, dice)
  local done = 0
  while done < #bytes do
    local len = math.min(SECTOR - (at + done) % SECTOR, #bytes - done)
    local fate = dice(8) -- to 4: written; 8: garbage where there was nothing else
    if fate <= 4 then
      put(content, at + done, bytes:sub(done + 1, done + len))
    elseif fate == 8 and len == SECTOR then
      put(content, at + done, string.char(dice(255)):rep(len))
    end
    done = done + len
  end
end

-- What happened before a moment, and until when each file and each directory is flushed then.
local function flushed_before(self, moment)
  local past, data, names = {}, {}, {}
  for _, event in ipairs(self.events) do
    if event.kind == "sync" and event.ended < moment then
      data[event.file] = math.max(data[event.file] or 0, event.begun)
    elseif event.kind == "sync_dir" and event.ended < moment then
      names[event.dir] = math.max(names[event.dir] or 0, event.begun)
    elseif event.begun < moment and event.kind ~= "sync" and event.kind ~= "sync_dir" then
      past[#past + 1] = event
    end
  end
  return past, data, names
end

local function is_flushed(event, data, names)
  if event.file and not event.parents then return event.ended <= (data[event.file] or 0) end
  for _, parent in ipairs(event.parents) do
    if event.ended > (names[parent] or 0) then return false end
  end
  return true
end

local function rename(tree, from, to)
  local moves = {}
  for name in pairs(tree) do
    if name == from or name:sub(1, #from + 1) == from .. "/" then moves[#moves + 1] = name end
  end
  for _, name in ipairs(moves) do tree[to .. name:sub(#from + 1)], tree[name] = tree[name], nil end
end

-- Writes a tree of names into `dir`; names whose directory is not there are lost with it.
local function write_tree(tree, contents, dir)
  local names = {}
  for name in pairs(tree) do names[#names + 1] = name end
  table.sort(names)
  assert(fs.mkdir_p(dir))
  for _, name in ipairs(names) do
    local parent = parent_of(name)
    if parent == "" or tree[parent] == "dir" then
      if tree[name] == "dir" then
        assert(fs.mkdir_p(dir .. "/" .. name))
      else
        assert(fs.write(dir .. "/" .. name, bytes_of(contents[tree[name]]), { sync = false }))
      end
    else
      tree[name] = nil
    end
  end
end

---Makes `dir` what may be left when the power is cut at a moment; dice(n) gives 1 to n and decides what is lost. (yields)
---@param moment number seconds, as in the events
---@param dir string not there yet
---@param dice fun(limit: integer): integer
---@param lies table|nil { data = true }: what was flushed may be lost nevertheless, for the test of the test
function Recording:cut(moment, dir, dice, lies)
  local past, data, names = flushed_before(self, moment)
  if lies and lies.data then data = {} end
  local tree, contents = {}, {}
  for _, event in ipairs(past) do
    local fate = is_flushed(event, data, names) and 1 or dice(3) -- kept, torn, lost
    if fate < 3 then
      local kind = event.kind
      if kind == "create" then tree[event.name] = event.file
      elseif kind == "mkdir" then tree[event.name] = "dir"
      elseif kind == "remove" then tree[event.name] = nil
      elseif kind == "rename" then rename(tree, event.name, event.to)
      else
        local content = contents[event.file] or new_content()
        contents[event.file] = content
        if kind == "write" then
          (fate == 1 and put or put_torn)(content, event.at, event.bytes, dice)
        elseif kind == "size" and (not event.is_least or event.size > content.size) then
          resize(content, event.size)
        end
      end
    end
  end
  write_tree(tree, contents, dir)
end

return M
