---------------------------------------------------------------- the tree

-- Text up to its first zero: of UTF-16, or with a byte for each character.
local function text_of(range, utf16)
  if utf16 then return (range:le_ustring():gsub("%z.*$", "")) end
  local text = range:raw():gsub("%z.*$", "")
  return (text:gsub("[\128-\255]", function(one)
    local code = one:byte()
    return string.char(0xc0 + math.floor(code / 64), 0x80 + code % 64)
  end))
end

local function add_int(tree, known, range, value)
  local kind, item = INTEGER[known.ftype], nil
  if kind == 64 and type(value) == "number" then
    value = UInt64(value % 2 ^ 32, math.floor(value / 2 ^ 32))
  elseif kind == -64 and type(value) == "number" then
    value = Int64.new(value)
  elseif math.abs(kind) == 32 and type(value) ~= "number" then
    value = value:tonumber()
  end
  item = tree:add(known.field, range, value)
  if known.flags then
    local names = {}
    for _, one in ipairs(known.flags) do
      if has_flag(value, one[1]) then
        table.insert(names, one[3])
        item:add(one[2], range, true)
      end
    end
    if #names > 0 then item:append_text(" [" .. table.concat(names, "|") .. "]") end
  end
  return item
end

local function add_bytes(tree, known, range)
  local size = range:len()
  if size == 0 then return end
  local step = ADDRESS_SIZES[known.ftype]
  if known.ftype == "text" then
    tree:add(known.field, range, text_of(range, false))
  elseif not step then
    tree:add(known.field, range)
  elseif size % step ~= 0 then
    tree:add(known.raw, range)
  else
    for at = 0, size - 1, step do
      local one = range(at, step)
      if known.ftype == "guid" then tree:add_le(known.field, one) else tree:add(known.field, one) end
    end
  end
end

local function add_numbers(tree, known, layer, start, stop, step, signed, big)
  local count = math.min(math.floor((stop - start) / step), MOST_NUMBERS)
  for index = 0, count - 1 do
    local at = layer.start + start + index * step
    add_int(tree, known, layer.tvb(at, step), read_int(layer.tvb, at, step, signed, big))
  end
end

local function add_place(tree, layer, place)
  local known = layer_fields[layer.protocol][place.field]
  if place.kind == "array" then
    add_numbers(tree, known, layer, place.offset, place.offset + place.size, place.step, place.signed, place.big)
    return
  end
  local range = layer.tvb(layer.start + place.offset, place.size)
  if place.kind == "int" then add_int(tree, known, range, get(layer, place.name))
  elseif place.utf16 then tree:add(known.field, range, text_of(range, true))
  else add_bytes(tree, known, range) end
end

-- The selector of a message whose form has another name for those bits: filters ask for it (scsi.op).
local function add_selector(tree, layer, known)
  local spec, plan = layer.spec, layer.plan
  local selector = spec.selector ~= "" and known[spec.selector]
  if selector and layer.size > 0 and not (plan and plan.by_name[spec.selector]) then
    local value = INTEGER[selector.ftype] and number_of(layer.number)
    if value then add_int(tree, selector, layer.tvb(layer.start, 1), value):set_generated():set_hidden() end
  end
end

local function add_range(tree, layer, name, start, stop)
  if stop > start then
    add_bytes(tree, layer_fields[layer.protocol][name], layer.tvb(layer.start + start, stop - start))
  end
end

-- Parts, and what lies between them; gives where they end.
local function add_parts(tree, layer)
  local plan, found = layer.plan, {}
  for index, one in ipairs(extents(layer)) do
    one.index = index
    table.insert(found, one)
  end
  table.sort(found, function(a, b)
    if a.start ~= b.start then return a.start < b.start end
    return a.index < b.index
  end)
  local position = plan.fixed
  for _, one in ipairs(found) do
    add_range(tree, layer, "padding", position, one.start)
    if #one.layers == 0 and one.stop > one.start then
      local part, known = one.part, layer_fields[layer.protocol][one.part.field]
      local range = layer.tvb(layer.start + one.start, one.stop - one.start)
      if part.step then
        add_numbers(tree, known, layer, one.start, one.stop, part.step, part.signed, plan.big)
      elseif part.utf16 then
        tree:add(known.field, range, text_of(range, true))
      else
        add_bytes(tree, known, range)
      end
    end
    position = math.max(position, one.stop)
  end
  local padded = math.min(layer.spec.padded, layer.size)
  if position < padded then
    add_range(tree, layer, "padding", position, padded)
    position = padded
  end
  return position
end

local function range_of(layer)
  return layer.tvb(layer.start, layer.size)
end

local add_layer

local function add_inner(tree, item, layer, names)
  local plan = layer.plan
  for _, one in ipairs(plan.inner or EMPTY) do
    local name, within, told = one[1], one[2], one[3]
    if SPEC.protocols[within] then
      local begin, stop = nil, layer.size
      if name == "rest" then
        begin = end_of(layer)
        begin = math.max(begin, math.min(layer.spec.padded, layer.size))
        if begin >= layer.size then begin = nil end
      else
        local place = plan.by_name[name]
        if place and place.kind == "bytes" and place.offset + place.size <= layer.size then
          begin, stop = place.offset, place.offset + place.size
        end
      end
      if begin then
        local length = told and get(layer, told)
        if length then stop = math.min(stop, begin + math.max(number_of(length), 0)) end
        local size = stop - begin
        if size > 0 and layer.depth < DEEPEST then
          local inside = dissect(within, layer.tvb, layer.start + begin, size, layer.to_guest)
          add_layer(tree, deeper(layer, inside), names)
        end
      end
    end
  end
  for _, one in ipairs(plan.parts and extents(layer) or EMPTY) do
    for _, within in ipairs(one.layers) do add_layer(item, within, names) end
  end
end

-- Shows a message and those in it; `names` gets what they are called.
function add_layer(tree, layer, names)
  local known, spec, plan = layer_fields[layer.protocol], layer.spec, layer.plan
  local item = tree:add(protos[layer.protocol], range_of(layer), spec.title)
  if layer.message ~= "" then
    item:append_text(": " .. layer.message)
    item:add(known.message.field, range_of(layer), layer.message):set_generated()
    table.insert(names, { layer.protocol, layer.message })
    add_selector(item, layer, known)
  end
  local missing = missing_in(layer)
  if not plan then
    add_range(item, layer, "rest", 0, layer.size)
  else
    for _, place in ipairs(plan.places) do
      if place.offset + place.size <= layer.size then add_place(item, layer, place) end
    end
    local stop = plan.fixed
    if plan.parts or spec.padded > 0 then stop = add_parts(item, layer) end
    add_range(item, layer, "rest", stop, layer.size)
    if not plan.message then
      item:add_proto_expert_info(undeclared, "no declaration of " .. layer.protocol .. " " .. layer.message)
    end
  end
  if missing > 0 then
    item:add_proto_expert_info(cut_short, string.format("cut short: %.0f bytes are missing", missing))
  end
  if plan then add_inner(tree, item, layer, names) end
end
