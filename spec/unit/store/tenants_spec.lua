-- No statement of the store reaches rows of a tenant that it was not told: every table it names is held to a tenant. The
-- texts are read from the sources, pieces joined by `..` as one; what stands between them counts as `?`.

-- Statements that work for all tenants, by file and a word of theirs, and why.
local FOR_ALL = {
  ["runs.lua"] = {
    ["with alive as materialized"] = "processes are there for all tenants",
    ["runtime_session_id = $1"] = "discovery asks whose session it is",
    ["runtime_session_id = $5"] = "discovery leaves out sessions whose runs were deleted, whosever they were",
    ["update runs r set lease_owner = $1"] = "recovery takes over runs of all tenants",
  },
  ["deletions.lua"] = {
    ["from deleted_runs where runtime_session_id = $1"] = "discovery asks whether the session's run was deleted",
    ["runtime_session_id = any($1)"] = "and notes that the runtime still has it",
  },
  ["projections.lua"] = {
    ["(p.tenant, p.run_id) > ($1, $2)"] = "the rebuild in the background pages over all tenants",
    ["count(*) as n from run_projections"] = "its progress",
  },
  ["idempotency_replies.lua"] = {
    ["where expires_at <= now() order by expires_at"] = "what is old is deleted for all tenants",
  },
  ["webhook_queue.lua"] = {
    ["with picked as ("] = "the worker claims what is due of all tenants; ids of webhooks are unique",
    ["with told as ("] = "the worker stores results under the tenant of each row",
    ["from unnest($3::text[], $4::uuid[])"] = "the worker gives back what it holds, by tenant and id",
  },
}

local NOT_OF_TENANTS = {
  ["db.lua"] = true, ["migrate.lua"] = true, ["online_index.lua"] = true, ["sql_text.lua"] = true,
}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- Tables that the migrations create.
local function tables()
  local known = {}
  for _, path in ipairs(require("pl.dir").getfiles("migrations", "*.sql")) do
    for name, body in read(path):gmatch("create table ([%w_]+) (%b())") do
      assert(body:find("tenant%s+text%s+not null"), name .. " has no tenant")
      known[name] = true
    end
  end
  return known
end

-- Lua source as a list of { kind, text }: "text" for literals, "code" for the rest, comments left out.
local function tokens(source)
  local list, at = {}, 1
  local function add(kind, text) list[#list + 1] = { kind = kind, text = text } end
  while at <= #source do
    local level = source:match("^%-%-%[(=*)%[", at)
    local stop
    if level then
      stop = select(2, source:find("]" .. level .. "]", at, true))
    elseif source:find("^%-%-", at) then
      stop = (source:find("\n", at, true) or #source + 1) - 1
    elseif source:find("^%[=*%[", at) then
      level = source:match("^%[(=*)%[", at)
      local from = at + #level + 2
      local closing = source:find("]" .. level .. "]", from, true)
      add("text", source:sub(from, closing - 1))
      stop = closing + #level + 1
    elseif source:find("^[\"']", at) then
      local quote, from = source:sub(at, at), at + 1
      stop = from
      while source:sub(stop, stop) ~= quote do stop = stop + (source:sub(stop, stop) == "\\" and 2 or 1) end
      add("text", (source:sub(from, stop - 1):gsub("\\n", "\n")))
    else
      stop = (source:find("[\"'%-%[]", at + 1) or #source + 1) - 1
      add("code", source:sub(at, stop))
    end
    at = stop + 1
  end
  return list
end

-- Texts as the source puts them together.
local function chunks(source)
  local out, current, pending = {}, nil, ""
  for _, token in ipairs(tokens(source)) do
    if token.kind == "code" then
      pending = pending .. token.text
    elseif current and pending:find("^%s*%.%.") and pending:find("%.%.%s*$") and not pending:find("\n%s*local ") then
      current = current .. (pending:find("^%s*%.%.%s*$") and "" or " ? ") .. token.text
      pending = ""
    else
      if current then out[#out + 1] = current end
      current, pending = token.text, ""
    end
  end
  out[#out + 1] = current
  return out
end

local NO_ALIAS = { where = true, set = true, on = true, join = true, left = true, cross = true, order = true,
  group = true, limit = true, values = true, using = true, union = true, returning = true, ["for"] = true,
  select = true, default = true, as = true }

local STARTS = { select = true, insert = true, update = true, delete = true, with = true }

-- Tables of a statement that are not held to a tenant.
local function loose(statement, known)
  local found = {}
  local text = statement:gsub("%-%-[^\n]*", ""):gsub("%s+", " ")
  for before, at in text:gmatch("%f[%w](%l+) ()") do
    local name, after = text:match("^([%w_]+)()", at)
    if known[name or ""] and (before == "from" or before == "join" or before == "update" or before == "into") then
      local rest = text:sub(after)
      local alias = rest:match("^ as ([%w_]+)") or rest:match("^ ([%w_]+)")
      if alias and NO_ALIAS[alias] then alias = nil end
      local held
      if before == "into" then held = rest:find("^[^(]*%([^)]*%f[%w]tenant%f[%W]")
      elseif alias then held = text:find("%f[%w]" .. alias .. "%.tenant%f[%W]")
      else held = text:find("%f[%w_.]tenant = ") or text:find("%f[%w_]" .. name .. "%.tenant%f[%W]") end
      if not held then found[#found + 1] = name end
    end
  end
  return found
end

-- Statements of a file that are not held to a tenant: { file: start of the statement }.
local function problems(file, source, known, excused)
  local found = {}
  for _, text in ipairs(chunks(source)) do
    if STARTS[text:match("^%s*(%l+)")] then
      local names = loose(text, known)
      local excuse
      for word in pairs(FOR_ALL[file] or {}) do
        if text:find(word, 1, true) then
          excuse = true
          excused[file .. ": " .. word] = true
        end
      end
      if #names > 0 and not excuse then
        found[#found + 1] = file .. ": " .. table.concat(names, ", ") .. " in: " .. text:gsub("%s+", " "):sub(1, 80)
      end
    end
  end
  return found
end

describe("the store", function()
  local known

  setup(function() known = tables() end)

  it("keeps every table by tenant", function()
    for _, name in ipairs({ "runs", "run_events_canonical", "webhooks", "audit_log" }) do
      assert.is_true(known[name])
    end
  end)

  it("asks for nothing without a tenant", function()
    local found, excused, statements = {}, {}, 0
    for _, path in ipairs(require("pl.dir").getfiles("lua/macp/store", "*.lua")) do
      local file, source = path:match("[^/]+$"), read(path)
      if not NOT_OF_TENANTS[file] then
        for _, text in ipairs(chunks(source)) do
          if STARTS[text:match("^%s*(%l+)")] then statements = statements + 1 end
        end
        for _, problem in ipairs(problems(file, source, known, excused)) do found[#found + 1] = problem end
      end
    end
    assert.same({}, found)
    assert.is_true(statements > 60, statements .. " statements were found")
    for file, words in pairs(FOR_ALL) do
      for word in pairs(words) do assert.is_true(excused[file .. ": " .. word], file .. ": nothing says " .. word) end
    end
  end)

  local bad = {
    { "select id from runs where id = $1", { "runs" } },
    { "select r.id from runs r join run_metrics m on m.run_id = r.id where r.tenant = $1", { "run_metrics" } },
    { "insert into webhooks (id, url) values ($1, $2)", { "webhooks" } },
    { "update runs set status = $2 where id = $1", { "runs" } },
    { "delete from run_artifacts where run_id = $1", { "run_artifacts" } },
    { "select id from runs where tenant = $1 and id in (select s.run_id from runtime_sessions s)",
      { "runtime_sessions" } },
    { "select id from runs where tenant = $1", {} },
    { "insert into webhooks as w (tenant, id) values ($1, $2)", {} },
  }
  for i, case in ipairs(bad) do
    it("is judged by a rule that bites, case " .. i, function() assert.same(case[2], loose(case[1], known)) end)
  end
end)
