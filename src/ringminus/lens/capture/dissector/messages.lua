---------------------------------------------------------------- numbers

local function number_of(value) return type(value) == "number" and value or value:tonumber() end

local READ = { -- by size and sign, little-endian and big-endian
  [1] = { "le_uint", "uint" }, [2] = { "le_uint", "uint" }, [4] = { "le_uint", "uint" },
  [8] = { "le_uint64", "uint64" },
  [-1] = { "le_int", "int" }, [-2] = { "le_int", "int" }, [-4] = { "le_int", "int" },
  [-8] = { "le_int64", "int64" },
}

-- An integer there; of 64 bits it is an object of Wireshark's.
local function read_int(tvb, at, size, signed, big)
  local range = tvb(at, size)
  return range[READ[signed and -size or size][big and 2 or 1]](range)
end

-- `width` bits of a value, `shift` above its lowest.
local function bits_of(value, shift, width)
  if type(value) == "number" then return math.floor(value / 2 ^ shift) % 2 ^ width end
  value = value:rshift(shift)
  if width >= 64 then return value end
  return value:band(width < 32 and UInt64(2 ^ width - 1, 0) or UInt64(0xFFFFFFFF, 2 ^ (width - 32) - 1))
end

local function has_flag(value, mask)
  if type(value) == "number" then return bit.band(value, mask) == bit.tobit(mask) end
  local wanted = type(mask) == "number" and UInt64(mask % 2 ^ 32, math.floor(mask / 2 ^ 32)) or mask
  return value:band(wanted) == wanted
end

---------------------------------------------------------------- messages (as ringminus/protocol/layer.py)

local dissect, end_of, extents, get

-- An integer of a message by its field's name; nil if it is not there. Of what was remembered of an earlier
-- packet's there is what is in `kept`.
function get(layer, name)
  if layer.kept then return layer.kept[name] end
  local plan = layer.plan
  if not plan then return nil end
  local place = plan.by_name[name]
  if place then
    if place.offset + place.size > layer.size then return nil end
    if place.kind ~= "int" then return nil end
    local at = layer.start + place.offset
    local value = read_int(layer.tvb, at, place.size, place.signed, place.big)
    return place.width and bits_of(value, place.shift, place.width) or value
  end
  local head, path = name:match("^([^.]*)%.(.+)$")
  if head then
    for _, one in ipairs(extents(layer)) do
      for _, within in ipairs(one.part.name == head and one.layers or EMPTY) do
        local value = get(within, path)
        if value ~= nil then return value end
      end
    end
    return nil
  end
  if name == layer.spec.selector and layer.message ~= "" then return layer.number end
  return nil
end

local function ones_of(value)
  local count = 0
  while value > 0 do
    count, value = count + value % 2, math.floor(value / 2)
  end
  return count
end

-- A number that the message tells: as it is declared, or nil.
local function amount(layer, told)
  if told == nil or type(told) == "number" then return told end
  if told.offset then
    local offset, length = get(layer, told.offset), get(layer, told.length)
    if not offset or not length then return nil end
    return math.floor((number_of(offset) + number_of(length) + PAGE - 1) / PAGE)
  end
  local value = get(layer, told.field)
  if not value then return nil end
  if told.ones then
    if type(value) == "number" then return ones_of(value) end
    return ones_of(value:lower()) + ones_of(value:higher())
  end
  return number_of(value) * told.times + told.plus
end

local function told_size(layer)
  local told = layer.plan and layer.plan.total
  return told and math.max(amount(layer, told) or 0, 0) or 0
end

-- The form that a message has, of several.
local function fitting(plans, layer)
  local last = plans[#plans]
  for _, plan in ipairs(plans) do
    local wrong = plan.to_guest ~= nil and plan.to_guest ~= layer.to_guest
    wrong = wrong or plan.answers and (not layer.request or layer.request.message ~= plan.answers)
    if not wrong then
      local has = layer.size >= plan.least
      if has then
        layer.plan = plan
        for name, value in pairs(plan.when or EMPTY) do
          local found = get(layer, name)
          has = has and found ~= nil and number_of(found) == value
        end
      end
      if has then return plan end
      if layer.size < plan.least and not plan.when then last = plan end
    end
  end
  return last
end

local function number_name(spec, number)
  local labels = SPEC.labels[spec.selector_labels or ""]
  local name = labels and not labels.flags and labels.names[number_of(number)]
  if name then return name end
  if type(number) == "number" then return string.format("0x%x", number) end
  return "0x" .. (number:tohex():gsub("^0+(.)", "%1"))
end

function dissect(protocol, tvb, start, size, to_guest, number, request, cut)
  local spec = SPEC.protocols[protocol]
  local layer = {
    protocol = protocol, spec = spec, tvb = tvb, start = start, size = size, to_guest = to_guest,
    request = request, cut = cut or 0, message = "", number = 0, depth = 0,
  }
  if number == nil then
    number = 0
    if not spec.header or size < spec.header then
      if spec.selector ~= "" then return layer end
    elseif spec.selector ~= "" then
      local place = spec.select
      number = read_int(tvb, start + place.offset, place.size, place.signed, place.big)
      if place.width then number = bits_of(number, place.shift, place.width) end
    end
  end
  layer.number = number
  local plans = spec.forms[number_of(number)] or spec.otherwise or spec.bare
  layer.plan = #plans == 1 and plans[1] or fitting(plans, layer)
  layer.message = layer.plan.message or ""
  if layer.message == "" then layer.message = number_name(spec, number) end
  return layer
end

-- Guests can wrap a packet into a packet for ever.
local DEEPEST = 32

-- A message within another.
local function deeper(outer, layer)
  layer.depth = outer.depth + 1
  return layer
end

-- Messages one after the other, and where they end.
local function messages_in(layer, protocol, start, stop, count, number)
  local found, spec = {}, SPEC.protocols[protocol]
  local least = math.max(spec.header or 0, 1)
  while start < stop and (not count or #found < count) do
    local at, size = layer.start + start, stop - start
    local one = deeper(layer, dissect(protocol, layer.tvb, at, size, layer.to_guest, number))
    local own = told_size(one)
    if own == 0 then own = end_of(one) end
    if own < size then
      if own < least then break end
      one = deeper(layer, dissect(protocol, layer.tvb, at, own, layer.to_guest, number))
    end
    table.insert(found, one)
    start = math.min(start + math.max(own, least), stop)
  end
  return found, start
end

local function extent(layer, part, start, stop, missing, count)
  local layers = {}
  if part.of and SPEC.protocols[part.of] and stop > start and layer.depth < DEEPEST then
    local number = nil
    if part.number then
      number = get(layer, part.number)
      if number == nil and layer.request then number = get(layer.request, part.number) end
    end
    if part.count == 1 and (number or not part.number) then
      local at = layer.start + start
      local cut = part.continued and 2 ^ 32 or 0
      local one = dissect(part.of, layer.tvb, at, stop - start, layer.to_guest, number, nil, cut)
      layers = { deeper(layer, one) }
    elseif not part.number or number then
      local stopped
      layers, stopped = messages_in(layer, part.of, start, stop, count, number)
      if count and #layers < count then missing = math.max(missing, 1) end
      if part.size == nil then stop = stopped end
    end
  end
  if part.continued then missing = 0 end
  return { part = part, start = start, stop = stop, missing = missing, layers = layers }
end

local function has_values(layer, wanted)
  for name, value in pairs(wanted) do
    local found = get(layer, name)
    if found == nil or number_of(found) ~= value then return false end
  end
  return true
end

local function is_there(layer, part)
  if part.when and not has_values(layer, part.when) then return false end
  return not part.unless or not has_values(layer, part.unless)
end

function extents(layer)
  if layer.extents then return layer.extents end
  local plan, found = layer.plan, {}
  layer.extents = found -- what looks for a part that is laid out only later finds nothing
  if not plan or not plan.parts then return found end
  local position, told = plan.fixed, told_size(layer)
  local stop = told > 0 and math.min(told, layer.size) or layer.size
  for _, part in ipairs(plan.parts) do
    local start, size, count = position, amount(layer, part.size), amount(layer, part.count)
    if part.at ~= nil then start = amount(layer, part.at) end
    local unknown = start == nil or part.size ~= nil and size == nil or part.count ~= nil and count == nil
    unknown = unknown or not is_there(layer, part)
    if not unknown and size ~= 0 and count ~= 0 then
      start = math.max(start, 0)
      local finish = math.max(start, stop)
      if size then
        finish = start + math.max(size, 0)
      elseif count and part.step then
        finish = start + count * part.step
      end
      local missing = math.max(finish - stop, 0)
      local one = extent(layer, part, math.min(start, stop), math.min(finish, stop), missing, count)
      position = one.stop
      if one.stop > one.start or one.missing > 0 then table.insert(found, one) end
    end
  end
  return found
end

function end_of(layer)
  local last = layer.plan and layer.plan.fixed or 0
  for _, one in ipairs(extents(layer)) do last = math.max(last, one.stop) end
  return math.min(last, layer.size)
end

local function missing_in(layer)
  local plan = layer.plan
  if not plan then return 1 end
  local short = math.max(plan.least, told_size(layer)) - layer.size
  for _, one in ipairs(plan.parts and extents(layer) or EMPTY) do short = math.max(short, one.missing) end
  return math.max(short - layer.cut, 0)
end
