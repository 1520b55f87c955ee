-- Policy: rule schema -> compiled rules and resolved tree. Pure; used by the application and inside the isolate (one
-- resolved tree per session). A rule is { path, type, default, min, max, over, one_of, nonempty, alias, unset,
-- requires = {path, value}, cases = { {path, value, min =, over =, max =, required =} }, inert_without, since, caution }.
-- What a rules object must satisfy to be registered is in macp.modes.policy_rules.

local M = {}

local COMMON = {
  { path = "commitment.authority", type = "string", default = "initiator_only",
    one_of = { "initiator_only", "any_participant", "designated_role" } },
  { path = "commitment.designated_roles", type = "strings", default = {}, nonempty = true,
    requires = { "commitment.authority", "designated_role" } },
}

M.MAX_VERSION = 3 -- of rule schemas

local function split(path)
  local parts = {}
  for part in path:gmatch("[^%.]+") do parts[#parts + 1] = part end
  return parts
end

---The value at a dotted path, or nil.
function M.lookup(tree, path)
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

-- What a rule means by a value it was given: old names are replaced, a value that stands for "absent" is dropped.
local function meant(rule, value)
  if value ~= nil and value == rule.unset then return nil end
  if type(value) == "string" and rule.alias and rule.alias[value] then return rule.alias[value] end
  return value
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
    local last = parts[#parts]
    at[last] = meant(rule, at[last])
    if at[last] == nil then at[last] = copy(rule.default) end
  end
  return out
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
