-- Policy: rule schema -> validator and resolved tree. Pure; used by the application (registration) and inside the
-- isolate (one resolved tree per session). A rule is { path, type, default, min, max, over, one_of, nonempty,
-- requires = {path, value}, cases = { {path, value, min =, over =, max =, required =} }, inert_without, since, caution }.

local M = {}

local COMMON = {
  { path = "commitment.authority", type = "string", default = "initiator_only",
    one_of = { "initiator_only", "any_participant", "designated_role" } },
  { path = "commitment.designated_roles", type = "strings", default = {}, nonempty = true,
    requires = { "commitment.authority", "designated_role" } },
}
-- Keys of other standard modes that policy builders emit with their default; tolerated when they change nothing.
local FOREIGN = { ["commitment.require_vote_quorum"] = true, ["commitment.allow_decline_over_approval"] = true }
local MAX_VERSION = 3

local TYPE_TEXT = { boolean = "true or false", integer = "a whole number", number = "a number", string = "a string",
  strings = "an array of strings", map = "an object of numbers" }

M.TYPE_TEXT = TYPE_TEXT

local function split(path)
  local parts = {}
  for part in path:gmatch("[^%.]+") do parts[#parts + 1] = part end
  return parts
end

local function lookup(tree, path)
  local value = tree
  for part in path:gmatch("[^%.]+") do
    if type(value) ~= "table" then return nil end
    value = value[part]
  end
  return value
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for k, v in pairs(value) do out[k] = copy(v) end
  return out
end

---Compiles a list of rules; nil means "no declaration": any object is accepted besides the commitment group.
---@param rules table[]|nil
function M.compile(rules)
  local compiled = { open = rules == nil, list = {}, by_path = {}, groups = {} }
  for _, source in ipairs({ COMMON, rules or {} }) do
    for _, rule in ipairs(source) do
      if not compiled.by_path[rule.path] then
        compiled.list[#compiled.list + 1] = rule
        compiled.by_path[rule.path] = rule
        local parts = split(rule.path)
        local prefix = ""
        for i = 1, #parts - 1 do
          prefix = prefix == "" and parts[i] or prefix .. "." .. parts[i]
          local group = compiled.groups[prefix] or {}
          group[#group + 1] = parts[i + 1]
          compiled.groups[prefix] = group
        end
        local top = compiled.groups[""] or {}
        top[#top + 1] = parts[1]
        compiled.groups[""] = top
      end
    end
  end
  return compiled
end

---The tree with every default filled in. Unknown keys are kept; stored policies are never refused here.
function M.resolve(compiled, tree)
  local out = copy(type(tree) == "table" and tree or {})
  for _, rule in ipairs(compiled.list) do
    local parts = split(rule.path)
    local at = out
    for i = 1, #parts - 1 do
      if type(at[parts[i]]) ~= "table" then at[parts[i]] = {} end
      at = at[parts[i]]
    end
    if at[parts[#parts]] == nil then at[parts[#parts]] = copy(rule.default) end
  end
  return out
end

local function is_list(value)
  local count = 0
  for key in pairs(value) do
    if type(key) ~= "number" then return false end
    count = count + 1
  end
  return count == #value
end

local function type_problem(rule, value)
  local kind = rule.type
  local ok
  if kind == "boolean" or kind == "string" then
    ok = type(value) == kind
  elseif kind == "number" or kind == "integer" then
    ok = type(value) == "number" and value == value and value < math.huge and value > -math.huge
      and (kind == "number" or value % 1 == 0)
  elseif kind == "strings" then
    ok = type(value) == "table" and is_list(value)
    for _, item in ipairs(ok and value or {}) do ok = ok and type(item) == "string" and item:find("%S") ~= nil end
  else
    ok = type(value) == "table"
    for key, item in pairs(ok and value or {}) do
      ok = ok and type(key) == "string" and type(item) == "number" and item == item
    end
  end
  if ok then return nil end
  local shown = type(value) == "string" and "'" .. value .. "'" or type(value) == "table" and "a table"
    or tostring(value)
  if type(value) == "userdata" then shown = "null" end
  return "must be " .. TYPE_TEXT[kind] .. ", not " .. shown
end

local function range_problem(bounds, value)
  if type(value) ~= "number" then return nil end
  if bounds.min and value < bounds.min then return string.format("must be at least %.14g", bounds.min) end
  if bounds.over and value <= bounds.over then return string.format("must be above %.14g", bounds.over) end
  if bounds.max and value > bounds.max then return string.format("must be at most %.14g", bounds.max) end
  return nil
end

local function domain_problem(rule, value, hint)
  if rule.nonempty and type(value) == "table" and next(value) == nil then return "must not be empty" end
  if rule.nonempty and value == "" then return "must not be empty" end
  if rule.one_of then
    for _, choice in ipairs(rule.one_of) do
      if choice == value then return nil end
    end
    return "must be one of " .. table.concat(rule.one_of, ", ") .. ", not '" .. tostring(value) .. "'"
      .. hint(tostring(value), rule.one_of)
  end
  if rule.type == "map" then
    for key, item in pairs(value) do
      local text = range_problem(rule, item)
      if text then return "'" .. key .. "' " .. text end
    end
    return nil
  end
  return range_problem(rule, value)
end

---Whether a default fits its own rule; nil or the problem. Used when a mode is loaded.
function M.fits(rule, value)
  if rule.nonempty and type(value) == "table" and next(value) == nil then return type_problem(rule, value) end
  return type_problem(rule, value) or domain_problem(rule, value, function() return "" end)
end

local function add(list, path, text)
  list[#list + 1] = { rule = path, text = text }
end

local function check_foreign(path, value, problems, warnings)
  if value == false then
    add(warnings, path, "belongs to another mode and has no effect here")
  else
    add(problems, path, "belongs to another mode; only its default false is tolerated here")
  end
end

-- Closed world: every key is a declared rule, a group of rules or an annotation.
local function check_keys(compiled, tree, prefix, opts, problems, warnings)
  local known = compiled.groups[prefix] or {}
  local names = {}
  for key in pairs(tree) do names[#names + 1] = tostring(key) end
  table.sort(names)
  for _, key in ipairs(names) do
    local path = prefix == "" and key or prefix .. "." .. key
    local value = tree[key]
    if key:find("^[_$]") then
      if compiled.by_path[prefix == "" and key:sub(2) or prefix .. "." .. key:sub(2)]
        or compiled.groups[key:sub(2)] then
        add(warnings, path, "is an annotation and has no effect, although its name resembles a rule")
      end
    elseif compiled.groups[path] then
      if type(value) ~= "table" or (#value > 0) then
        add(problems, path, "must be an object")
      else
        check_keys(compiled, value, path, opts, problems, warnings)
      end
    elseif not compiled.by_path[path] then
      local skip = compiled.open and prefix == "" or (opts.foreign_groups and prefix == "" and opts.foreign_groups[key])
      if FOREIGN[path] then
        check_foreign(path, value, problems, warnings)
      elseif not skip then
        add(problems, path, "unknown rule" .. opts.hint(key, known))
      end
    end
  end
end

local function check_cases(rule, value, resolved, problems)
  for _, case in ipairs(rule.cases or {}) do
    if lookup(resolved, case[1]) == case[2] then
      local condition = string.format(" when %s is '%s'", case[1], tostring(case[2]))
      if value == nil and case.required then
        add(problems, rule.path, "is required" .. condition)
      elseif value ~= nil then
        local text = range_problem(case, value)
        if text then add(problems, rule.path, text .. condition) end
      end
    end
  end
end

local function check_rule(rule, tree, resolved, version, opts, problems, warnings)
  local value = lookup(tree, rule.path)
  if value == nil then
    local requires = rule.requires
    if requires and lookup(resolved, requires[1]) == requires[2] then
      add(problems, rule.path, string.format("is required when %s is '%s'", requires[1], tostring(requires[2])))
    end
    check_cases(rule, nil, resolved, problems)
    return
  end
  local needed = rule.requires == nil or lookup(resolved, rule.requires[1]) == rule.requires[2]
  local empty_default = not needed and type(value) == "table" and next(value) == nil
  local text = type_problem(rule, value) or (not empty_default and domain_problem(rule, value, opts.hint))
  if text then return add(problems, rule.path, text) end
  check_cases(rule, value, resolved, problems)
  if rule.since and version < rule.since then
    add(warnings, rule.path, "belongs to schema version " .. rule.since)
  end
  local caution = rule.caution
  if caution and version < caution.below and value ~= caution.except
    and lookup(resolved, caution.unless[1]) ~= caution.unless[2] then
    add(warnings, rule.path, caution[1])
  end
  local other = rule.inert_without
  if other and lookup(resolved, other[1]) ~= other[2] then
    add(warnings, rule.path, string.format("has no effect unless %s is %s", other[1], tostring(other[2])))
  end
end

---Validates a rules object.
---@param compiled table
---@param tree table decoded rules
---@param version integer schema version
---@param opts table|nil { hint = function(word, candidates), foreign_groups = set for wildcard policies }
---@return table[] problems { rule, text }, table[] warnings
function M.check(compiled, tree, version, opts)
  opts = opts or {}
  opts = { hint = opts.hint or function() return "" end, foreign_groups = opts.foreign_groups }
  local problems, warnings = {}, {}
  if type(version) ~= "number" or version < 1 or version > MAX_VERSION or version % 1 ~= 0 then
    add(problems, "schema_version", string.format("must be 1 to %d, not %s", MAX_VERSION, tostring(version)))
    version = MAX_VERSION
  end
  if type(tree) ~= "table" or #tree > 0 then
    add(problems, "rules", "must be a JSON object")
    return problems, warnings
  end
  check_keys(compiled, tree, "", opts, problems, warnings)
  local resolved = M.resolve(compiled, tree)
  for _, rule in ipairs(compiled.list) do
    check_rule(rule, tree, resolved, version, opts, problems, warnings)
  end
  if lookup(resolved, "commitment.authority") == "any_participant" then
    add(warnings, "commitment.authority", "'any_participant' also lets every participant cancel the session")
  end
  return problems, warnings
end

---Turns flat paths ("auction.reserve" = 100) into a tree; a table that is already a tree passes through.
function M.unflatten(flat)
  local tree = {}
  for key, value in pairs(flat) do
    local at, parts = tree, split(key)
    for i = 1, #parts - 1 do
      if type(at[parts[i]]) ~= "table" then at[parts[i]] = {} end
      at = at[parts[i]]
    end
    local last = parts[#parts]
    if type(value) == "table" and type(at[last]) == "table" then
      for k, v in pairs(value) do at[last][k] = v end
    else
      at[last] = copy(value)
    end
  end
  return tree
end

return M
