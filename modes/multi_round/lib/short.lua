-- The beginning of a value, for labels and lists: values may be long texts. Cuts between characters.
local MAX_BYTES = 120

return function(value)
  if #value <= MAX_BYTES then return value end
  local stop = MAX_BYTES
  while stop > 0 and value:byte(stop + 1) >= 128 and value:byte(stop + 1) < 192 do stop = stop - 1 end
  return value:sub(1, stop) .. "..."
end
