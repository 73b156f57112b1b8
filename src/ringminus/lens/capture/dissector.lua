-- Wireshark's dissector of ringminus' captures.
-- VERSION
--
-- Made from the declarations of events and messages by `ringminus lens wireshark install`: what is declared is
-- in SPEC, what follows it takes messages apart as ringminus does itself (ringminus/protocol/layer.py).

local SPEC = {} -- SPEC

local VERSION = SPEC.version
local PAGE = 4096
local MOST_NUMBERS = 65536
local EMPTY = {}

---------------------------------------------------------------- fields of Wireshark's

local ringminus = Proto("ringminus", "ringminus event")
local protos, layer_fields, event_fields, fields_of = {}, {}, {}, { ringminus = {} }

-- ftypes of SPEC: for integers by their size, else by how they are read
local MAKE = {
  u8 = ProtoField.uint8, u16 = ProtoField.uint16, u32 = ProtoField.uint32, u64 = ProtoField.uint64,
  i8 = ProtoField.int8, i16 = ProtoField.int16, i32 = ProtoField.int32, i64 = ProtoField.int64,
  bytes = ProtoField.bytes, mac = ProtoField.ether, ipv4 = ProtoField.ipv4, ipv6 = ProtoField.ipv6,
  guid = ProtoField.guid, text = ProtoField.string, flag = ProtoField.bool, time = ProtoField.relative_time,
}
local ADDRESS_SIZES = { mac = 6, ipv4 = 4, ipv6 = 16, guid = 16 }
local INTEGER = { u8 = 32, u16 = 32, u32 = 32, u64 = 64, i8 = -32, i16 = -32, i32 = -32, i64 = -64 }

-- A field of SPEC: its name, ftype, labels and whether it is hexadecimal. There may be several of a name, with
-- labels of their own.
local function make_field(owner, prefix, spec)
  local name, ftype, labels, hex = spec[1], spec[2], SPEC.labels[spec[3] or ""], spec[4]
  local abbrev = "ringminus." .. prefix .. name
  local made = { ftype = ftype, labels = labels }
  local make = MAKE[ftype]
  if INTEGER[ftype] then
    local display = INTEGER[ftype] == 32 and base.DEC_HEX or base.DEC
    if hex then display = base.HEX end
    made.field = make(abbrev, name, display, labels and not labels.flags and labels.names or nil)
  elseif ADDRESS_SIZES[ftype] or ftype == "time" then
    made.field = make(abbrev, name)
    if ftype ~= "time" then -- where there are not as many bytes as an address has
      made.raw = ProtoField.bytes(abbrev, name)
      table.insert(owner, made.raw)
    end
  else
    made.field = make(abbrev, name)
  end
  table.insert(owner, made.field)
  if labels and labels.flags then
    made.flags = {}
    for _, one in ipairs(labels.of) do
      local flag = ProtoField.bool(abbrev .. "." .. one[2]:lower(), one[2])
      table.insert(owner, flag)
      table.insert(made.flags, { one[1], flag, one[2] })
    end
  end
  return made
end

local function index_places(plans)
  for _, plan in ipairs(plans or EMPTY) do
    plan.by_name = {}
    for _, place in ipairs(plan.places) do plan.by_name[place.name] = place end
  end
end

for name, spec in pairs(SPEC.protocols) do
  index_places(spec.bare)
  index_places(spec.otherwise)
  for _, plans in pairs(spec.forms) do index_places(plans) end
  local proto, owner = Proto("ringminus." .. name, spec.title .. " (ringminus." .. name .. ")"), {}
  local known = { message = make_field(owner, name .. ".", { "message", "text" }) }
  for key, one in ipairs(spec.fields) do
    known[key] = make_field(owner, name .. ".", one)
    known[one[1]] = known[one[1]] or known[key]
  end
  proto.fields = owner
  protos[name], layer_fields[name] = proto, known
end

do
  local owner, known = {}, {}
  for _, one in ipairs(SPEC.header) do known[one[1]] = make_field(owner, "", one) end
  known.event = make_field(owner, "", { "event", "text" })
  event_fields[""] = known
  for name, spec in pairs(SPEC.events) do
    known = { [""] = { field = ProtoField.none("ringminus." .. name, name) } }
    table.insert(owner, known[""].field)
    for _, one in ipairs(spec) do known[one[1]] = make_field(owner, name .. ".", one) end
    event_fields[name] = known
  end
  fields_of.ringminus = owner
end

local about_application = ProtoField.string("ringminus.application", "application")
local about_partition = ProtoField.string("ringminus.partition", "partition")
local cause_in = ProtoField.framenum("ringminus.cause_in", "caused by", base.NONE)
local request_in = ProtoField.framenum("ringminus.request_in", "answers", base.NONE, frametype.REQUEST)
local answer_in = ProtoField.framenum("ringminus.answer_in", "answered in", base.NONE, frametype.RESPONSE)
local answer_time = ProtoField.relative_time("ringminus.answer_time", "time since the request")
for _, one in ipairs({ about_application, about_partition, cause_in, request_in, answer_in, answer_time }) do
  table.insert(fields_of.ringminus, one)
end
ringminus.fields = fields_of.ringminus

local WARN, NOTE, ERROR = expert.severity.WARN, expert.severity.NOTE, expert.severity.ERROR
local cut_short = ProtoExpert.new("ringminus.cut", "cut short", expert.group.MALFORMED, WARN)
local undeclared = ProtoExpert.new("ringminus.undeclared", "unknown message", expert.group.UNDECODED, WARN)
local no_protocol = ProtoExpert.new("ringminus.no_protocol", "no protocol", expert.group.UNDECODED, NOTE)
local bad_packet = ProtoExpert.new("ringminus.bad", "no event of ringminus", expert.group.MALFORMED, ERROR)
ringminus.experts = { cut_short, undeclared, no_protocol, bad_packet }

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
    request = request, cut = cut or 0, message = "", number = 0,
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

-- Messages one after the other, and where they end.
local function messages_in(layer, protocol, start, stop, count, number)
  local found, spec = {}, SPEC.protocols[protocol]
  local least = math.max(spec.header or 0, 1)
  while start < stop and (not count or #found < count) do
    local at, size = layer.start + start, stop - start
    local one = dissect(protocol, layer.tvb, at, size, layer.to_guest, number)
    local own = told_size(one)
    if own == 0 then own = end_of(one) end
    if own < size then
      if own < least then break end
      one = dissect(protocol, layer.tvb, at, own, layer.to_guest, number)
    end
    table.insert(found, one)
    start = math.min(start + math.max(own, least), stop)
  end
  return found, start
end

local function extent(layer, part, start, stop, missing, count)
  local layers = {}
  if part.of and SPEC.protocols[part.of] and stop > start then
    local number = nil
    if part.number then
      number = get(layer, part.number)
      if number == nil and layer.request then number = get(layer.request, part.number) end
    end
    if part.count == 1 and (number or not part.number) then
      local at = layer.start + start
      local cut = part.continued and 2 ^ 32 or 0
      layers = { dissect(part.of, layer.tvb, at, stop - start, layer.to_guest, number, nil, cut) }
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
        local inside = size > 0 and dissect(within, layer.tvb, layer.start + begin, size, layer.to_guest)
        if inside then add_layer(tree, inside, names) end
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

---------------------------------------------------------------- MessagePack

-- Values with their places: {value, start, stop}; bytes are {range}, arrays tables of values.
local function unpack_at(tvb, at, stop)
  local first = tvb(at, 1):uint()
  local function sized(width, kind)
    local size = tvb(at + 1, width):uint()
    return kind(at + 1 + width, size)
  end
  local function text(begin, size)
    size = math.min(size, stop - begin)
    return { value = tvb(begin, size):string(ENC_UTF_8), start = begin, stop = begin + size }
  end
  local function bytes(begin, size)
    local there = math.max(math.min(size, stop - begin), 0) -- a large one goes on in another block
    return { bytes = true, start = begin, stop = begin + there, missing = size - there }
  end
  local function array(begin, count)
    local found, position = {}, begin
    for index = 1, count do
      if position >= stop then break end
      found[index] = unpack_at(tvb, position, stop)
      position = found[index].stop
    end
    return { list = found, start = at, stop = position }
  end
  local function map(begin, count)
    local found, position = {}, begin
    for _ = 1, count do
      local key = unpack_at(tvb, position, stop)
      local value = unpack_at(tvb, key.stop, stop)
      found[key.value], position = value, value.stop
    end
    return { map = found, start = at, stop = position }
  end
  local function int(size, signed)
    return { value = read_int(tvb, at + 1, size, signed, true), start = at, stop = at + 1 + size }
  end
  if first < 0x80 then return { value = first, start = at, stop = at + 1 } end
  if first >= 0xe0 then return { value = first - 256, start = at, stop = at + 1 } end
  if first < 0x90 then return map(at + 1, first - 0x80) end
  if first < 0xa0 then return array(at + 1, first - 0x90) end
  if first < 0xc0 then return text(at + 1, first - 0xa0) end
  if first == 0xc0 then return { start = at, stop = at + 1 } end
  if first == 0xc2 or first == 0xc3 then return { value = first == 0xc3, start = at, stop = at + 1 } end
  if first >= 0xc4 and first <= 0xc6 then return sized(2 ^ (first - 0xc4), bytes) end
  if first >= 0xcc and first <= 0xcf then return int(2 ^ (first - 0xcc), false) end
  if first >= 0xd0 and first <= 0xd3 then return int(2 ^ (first - 0xd0), true) end
  if first >= 0xd9 and first <= 0xdb then return sized(2 ^ (first - 0xd9), text) end
  if first == 0xdc or first == 0xdd then return sized(first == 0xdc and 2 or 4, array) end
  if first == 0xde or first == 0xdf then return sized(first == 0xde and 2 or 4, map) end
  error("no MessagePack")
end

---------------------------------------------------------------- events

-- What earlier packets have told: of the files' schemas, and of events by their numbers.
local schemas, frames, requests, answers, shown = {}, {}, {}, {}, {}

function ringminus.init()
  schemas, frames, requests, answers, shown = { [SPEC.schema_crc] = SPEC.schema }, {}, {}, {}, {}
end

-- Their numbers are below 2 ^ 53.
local function key_of(value) return value and number_of(value) end

local function add_value(tree, known, tvb, one)
  if one.list then
    for _, each in ipairs(one.list) do add_value(tree, known, tvb, each) end
  elseif one.bytes then
    if one.stop > one.start then
      local range = tvb(one.start, one.stop - one.start)
      if known.ftype == "guid" and range:len() == 16 then tree:add(known.field, range)
      elseif known.ftype == "bytes" then tree:add(known.field, range) end
    end
  elseif one.value ~= nil then
    local range, value = tvb(one.start, one.stop - one.start), one.value
    if known.ftype == "time" then
      local ticks = type(value) == "number" and UInt64(value % 2 ^ 32, math.floor(value / 2 ^ 32)) or value
      local seconds = ticks / UInt64(10000000, 0)
      tree:add(known.field, range, NSTime(seconds:tonumber(), (ticks % UInt64(10000000, 0)):tonumber() * 100))
    elseif INTEGER[known.ftype] then
      if type(value) ~= "boolean" then add_int(tree, known, range, value) end
    else
      tree:add(known.field, range, value)
    end
  end
end

local function value_of(values, name) return values[name] and values[name].value end

local function guid_of(tvb, one)
  return one and one.bytes and one.stop - one.start == 16 and tostring(tvb(one.start, 16):bytes()):lower() or ""
end

-- Registers' values as bytes, of which each has `halves` times 32 bits.
local function bytes_of(registers, halves)
  local made = {}
  for _, value in ipairs(registers) do
    local low, high = value, 0
    if type(value) == "number" then
      low, high = value % 2 ^ 32, math.floor(value / 2 ^ 32)
    else
      low, high = value:lower(), value:higher()
    end
    for half = 1, halves do
      local left = half == 1 and low or high
      for _ = 1, 4 do
        table.insert(made, string.format("%02x", left % 256))
        left = math.floor(left / 256)
      end
    end
  end
  return ByteArray.new(table.concat(made)):tvb("value")
end

-- The message that an event carries, and what it answers (as ringminus/lens/decode.py).
local function carried(name, values, tvb)
  local function message(protocol, bytes, to_guest, number, request, cut)
    if not SPEC.protocols[protocol] or not bytes or not bytes.bytes then return nil end
    local size = bytes.stop - bytes.start
    return dissect(protocol, tvb, bytes.start, size, to_guest, number, request, cut), request
  end
  local function has_form(protocol, number)
    local spec = SPEC.protocols[protocol]
    return spec and number and (spec.forms[number_of(number)] or spec.otherwise)
  end
  local request = requests[key_of(value_of(values, "cause")) or 0]
  local to_guest = value_of(values, "to_guest")
  if name == "packet" then
    local answer = value_of(values, "kind") == SPEC.completion
    local protocol = SPEC.interfaces[guid_of(tvb, values.interface)]
    local payload = values.payload
    if not protocol or answer and (not payload or payload.start == payload.stop) then return nil end
    return message(protocol, payload, to_guest, nil, answer and request and request.layer or nil)
  elseif name == "device" then
    local payload, size = values.payload, value_of(values, "size")
    local cut = payload and size and math.max(number_of(size) - (payload.stop - payload.start), 0)
    local asked = to_guest and request and request.layer or nil
    return message(value_of(values, "protocol"), payload, to_guest, nil, asked, cut)
  elseif name == "message" then
    local kind = value_of(values, "message_type")
    if kind == SPEC.vmbus_message then return message("vmbus", values.payload, true) end
    if has_form("synic_message", kind) then return message("synic_message", values.payload, false, kind) end
  elseif name == "bus" then
    return message("vmbus", values.payload, to_guest)
  elseif name == "hypercall" then
    local block = values.block
    if not block or not block.bytes or block.stop == block.start then return nil end
    return message("hypercall_input", block, false, value_of(values, "code"))
  elseif name == "msr" then
    local read_fault = value_of(values, "fault") and not value_of(values, "write")
    local number = value_of(values, "msr")
    if read_fault or not has_form("msr_value", number) then return nil end
    return dissect("msr_value", bytes_of({ value_of(values, "value") }, 2), 0, 8, false, number)
  elseif name == "cpuid" then
    local registers, number = {}, value_of(values, "leaf")
    for index, register in ipairs({ "eax", "ebx", "ecx", "edx" }) do
      registers[index] = value_of(values, register)
    end
    if #registers < 4 or not has_form("cpuid_leaf", number) then return nil end
    return dissect("cpuid_leaf", bytes_of(registers, 1), 0, 16, false, number)
  end
end

-- What a ring packet has before its payload: a layer of its own (as EventLayer in ringminus/lens/decode.py).
local function header_of(name, values, tvb)
  local header = values.header
  if name ~= "packet" or not SPEC.protocols.ring or not header or not header.bytes then return nil end
  if header.stop == header.start then return nil end
  local to_guest, kind = value_of(values, "to_guest"), value_of(values, "kind")
  return dissect("ring", tvb, header.start, header.stop - header.start, to_guest, kind)
end

-- Which packet an event answers.
local function request_of(name, values)
  local answer = name == "packet" and value_of(values, "kind") == SPEC.completion
  answer = answer or name == "device" and value_of(values, "to_guest")
  return answer and requests[key_of(value_of(values, "cause")) or 0]
end

-- Remember what later packets refer to; only on the first way through the file.
local function note(name, values, layer, pinfo)
  local sequence = key_of(value_of(values, "sequence")) or 0
  frames[sequence] = pinfo.number
  local request = request_of(name, values)
  if request and not answers[request.number] then answers[request.number] = pinfo.number end
  local asks = name == "packet" and value_of(values, "kind") ~= SPEC.completion
    and (not value_of(values, "to_guest") or value_of(values, "wants_completion"))
  asks = asks or name == "device" and not value_of(values, "to_guest")
  if not asks then return end
  local asked = nil
  if layer then -- the layer itself would need the packet's bytes
    asked = { message = layer.message, kept = {} }
    for _, field in ipairs(layer.spec.asked) do asked.kept[field] = get(layer, field) end
  end
  requests[sequence] = { number = pinfo.number, host_ns = value_of(values, "host_ns"), layer = asked }
end

local ARROWS = { [0] = { "", "" }, { "guest", "host" }, { "host", "guest" } }
local SHOWN = { -- the fields of events that are told in the list of packets
  exit = { "reason", "rip" }, msr = { "name", "value" }, hypercall = { "name", "status" }, message = { "sint" },
  signal = { "sint", "flag" }, interrupt = { "vector", "source" }, timer = { "timer" },
  port = { "port", "value" }, mmio = { "gpa", "value" }, packet = { "device" },
  gpadl = { "device", "handle" }, channel = { "device", "open" }, device = { "device" },
  violation = { "device", "reason" }, cpuid = { "leaf" }, fault = { "address", "rip" }, halt = { "how" },
}

local function info_of(name, values, names)
  local words = { name }
  for _, field in ipairs(SHOWN[name] or EMPTY) do
    local value = value_of(values, field)
    if type(value) == "userdata" then value = "0x" .. (value:tohex():gsub("^0+(.)", "%1")) end
    if type(value) == "number" and value > 0xffff then value = string.format("0x%x", value) end
    if value ~= nil then table.insert(words, tostring(value)) end
  end
  for index, one in ipairs(names) do
    table.insert(words, (index == 1 and "" or "| ") .. one[1] .. " " .. one[2])
  end
  return table.concat(words, " ")
end

local function add_links(tree, values, name, pinfo)
  local cause = frames[key_of(value_of(values, "cause")) or 0]
  if cause and cause ~= pinfo.number then tree:add(cause_in, cause):set_generated() end
  local request = request_of(name, values)
  if request and request.number ~= pinfo.number then
    tree:add(request_in, request.number):set_generated()
    local now = value_of(values, "host_ns")
    if type(now) == "userdata" and type(request.host_ns) == "userdata" and now >= request.host_ns then
      local took = number_of(now - request.host_ns)
      tree:add(answer_time, NSTime(math.floor(took / 1e9), took % 1e9)):set_generated()
    end
  elseif answers[pinfo.number] then
    tree:add(answer_in, answers[pinfo.number]):set_generated()
  end
end

local function dissect_event(tvb, pinfo, tree, schema, direction)
  local number = tvb(8, 1):uint()
  local form = schema[number + 1]
  local record = form and unpack_at(tvb, 9, tvb:len())
  if not record or not record.list then error("no record") end
  local name, values = form[1], {}
  for index, field in ipairs(form[2]) do values[field] = record.list[index] end
  local item = tree:add(ringminus, tvb(), "ringminus event: " .. name)
  local common, own = event_fields[""], event_fields[name] or EMPTY
  item:add(common.event.field, tvb(8, 1), name):set_generated()
  if own[""] then item:add(own[""].field, tvb(8, 1)):set_hidden() end
  for index, field in ipairs(form[2]) do
    local known = common[field] or own[field]
    if known and record.list[index] then add_value(item, known, tvb, record.list[index]) end
  end
  if not event_fields[name] then
    item:add_proto_expert_info(undeclared, "this dissector knows no event " .. name)
  end
  local layer = carried(name, values, tvb)
  if not pinfo.visited then note(name, values, layer, pinfo) end
  add_links(item, values, name, pinfo)
  local names, header = {}, header_of(name, values, tvb)
  if header then add_layer(tree, header, {}) end
  if layer then
    add_layer(tree, layer, names)
  elseif name == "packet" and values.payload and values.payload.stop > values.payload.start
    or name == "device" then
    item:add_proto_expert_info(no_protocol, "no protocol is declared for this device's messages")
  end
  local arrow = ARROWS[direction] or ARROWS[0]
  pinfo.cols.src, pinfo.cols.dst = arrow[1], arrow[2]
  pinfo.cols.protocol = #names > 0 and names[#names][1]:upper() or name:upper()
  pinfo.cols.info = info_of(name, values, names)
end

local function dissect_about(tvb, pinfo, tree, crc)
  local about = unpack_at(tvb, 8, tvb:len()).map
  local schema = {}
  for index, form in ipairs(about.schema.list) do
    local names = {}
    for place, one in ipairs(form.list[2].list) do names[place] = one.value end
    schema[index] = { form.list[1].value, names }
  end
  schemas[crc] = schema
  local item = tree:add(ringminus, tvb(), "ringminus capture")
  item:add(about_application, tvb(), about.application.value)
  item:add(about_partition, tvb(), about.partition.value)
  pinfo.cols.info = string.format(
    "capture of %s by %s", about.partition.value ~= "" and about.partition.value or "a guest",
    about.application.value)
end

local function dissect_packet(tvb, pinfo, tree)
  local version, kind, direction = tvb(0, 1):uint(), tvb(1, 1):uint(), tvb(2, 1):uint()
  local crc = tvb(4, 4):le_uint()
  if version ~= SPEC.format then error("format " .. version .. " needs another version of this dissector") end
  if kind == 0 then dissect_about(tvb, pinfo, tree, crc) end
  if kind ~= 1 then return end
  if not schemas[crc] then error("the file's first packet is missing, which says what its events are") end
  dissect_event(tvb, pinfo, tree, schemas[crc], direction)
end

function ringminus.dissector(tvb, pinfo, tree)
  pinfo.cols.protocol = "RINGMINUS"
  if tvb:len() ~= tvb:reported_len() and tvb:len() < 9 then return end
  local done, problem = pcall(dissect_packet, tvb, pinfo, tree)
  if not done then
    local item = tree:add(ringminus, tvb(), "ringminus: cannot be read")
    item:add_proto_expert_info(bad_packet, tostring(problem))
    pinfo.cols.info = "cannot be read: " .. tostring(problem)
  end
end

DissectorTable.get("wtap_encap"):add(wtap.USER13, ringminus)
set_plugin_info({ version = VERSION, author = "ringminus", description = "Hyper-V's boundary" })
