"""From the description of an ONNX detector to its inputs: what is not described follows from the file."""

from models.detection.onnx_input import COLOURS, LAYOUTS, PictureInput
from tasks.detection.onnx_file import Fields, OnnxFile, Port
from utils.errors import UserError, short

PICTURES = ("uint8", "float32", "float16", "float64")  # types of an input that takes a picture
NUM_CHANNELS = (COLOURS, 1)


def picture_input(file: OnnxFile, fields: Fields, source: str) -> PictureInput:
    """Return the input that takes the picture.

    Raises:
        UserError: names the field that is missing or does not fit the file.
    """
    port = picture_port(file, fields, source)
    layout = layout_of(port, fields, source)
    sides = [port.shape[axis] for axis in LAYOUTS[layout]]
    channels = sides[0] or COLOURS
    if channels not in NUM_CHANNELS:
        raise UserError(f"{source}: input {port.name}: expected 3 channels or 1, found {channels}")
    if layout.startswith("n") and port.shape[0] not in (1, None):
        raise UserError(f"{source}: input {port.name}: expected batches of one or any size, found {port.shape[0]}")
    values: Fields = {"name": port.name, "dtype": port.dtype, "layout": layout, "channels": channels}
    values |= {"bgr": fields.get("channels") == "bgr"} | colour_values(port, channels, fields, source)
    return PictureInput(**values, **resize_values(port.name, sides[1], sides[2], fields, source))


def picture_port(file: OnnxFile, fields: Fields, source: str) -> Port:
    """Return the input of the picture: the one that is named, else the only one that is none of `extra_inputs`."""
    extra = fields.get("extra_inputs", {})
    left = [port for port in file.inputs if port.name not in extra and fields.get("input") in (None, port.name)]
    if len(left) != 1:
        found = ", ".join(port.name for port in file.inputs)
        raise UserError(f"{source}: input: expected the name of the input that takes the picture, of {found}")
    unnamed = [port.name for port in file.inputs if port.name not in extra and port != left[0]]
    if unnamed:
        raise UserError(f"{source}: extra_inputs: expected what {unnamed[0]} is, found nothing")
    if left[0].dtype not in PICTURES:
        expected = f"expected a type of {', '.join(PICTURES)}"
        raise UserError(f"{source}: input {left[0].name}: {expected}, found {left[0].dtype or 'another'}")
    return left[0]


def layout_of(port: Port, fields: Fields, source: str) -> str:
    """Return the layout of the picture, which the place of three channels, or of one, shows."""
    fitting = [name for name in LAYOUTS if len(name) == len(port.shape)]
    if "layout" in fields and fields["layout"] not in fitting:
        found = f"{fields['layout']} for {len(port.shape)} axes"
        raise UserError(
            f"{source}: layout: expected {' or '.join(fitting) or 'an input of 3 or 4 axes'}, found {found}"
        )
    if "layout" in fields:
        return fields["layout"]
    shown = [name for name in fitting if port.shape[LAYOUTS[name][0]] in NUM_CHANNELS]
    if not shown:
        found = f"shape {axes(port)} of input {port.name}, which does not show it"
        raise UserError(f"{source}: layout: expected one of {', '.join(LAYOUTS)}, found {found}")
    return shown[0]


def axes(port: Port) -> str:
    """Return a shape in words."""
    return f"({', '.join('any' if size is None else str(size) for size in port.shape)})"


def colour_values(port: Port, channels: int, fields: Fields, source: str) -> Fields:
    """Return largest value, mean, deviation and fill."""
    for name in ("max_value", "mean", "std") if port.dtype == "uint8" else ():
        if fields.get(name, 255) != 255:
            raise UserError(f"{source}: {name}: expected none for an input of bytes, found {short(fields[name])}")
    if channels == 1 and "channels" in fields:
        raise UserError(f"{source}: channels: expected none for an input of one channel, found {fields['channels']}")
    values: Fields = {"max_value": float(fields.get("max_value", 1))}
    values |= {name: tuple(map(float, fields[name])) for name in ("mean", "std") if name in fields}
    if "fill" in fields:
        fill = fields["fill"]
        values["fill"] = tuple(fill) if isinstance(fill, list) else (fill,)
    for name, value in values.items():
        if name != "max_value" and len(value) > channels:
            raise UserError(f"{source}: {name}: expected one number for one channel, found {len(value)}")
    return values


def resize_values(name: str, height: int | None, width: int | None, fields: Fields, source: str) -> Fields:
    """Return how a picture is resized; fixed axes of the input are its size."""
    size = fields.get("size")
    size = (size, size) if isinstance(size, int) else tuple(size) if size else None
    fixed = None not in (height, width)
    if size and any(side not in (None, given) for side, given in zip((height, width), size)):
        raise UserError(f"{source}: size: expected {height or 'any'}x{width or 'any'} as of {name}, found {size}")
    size = (height, width) if fixed else size
    resize = fields.get("resize", "letterbox" if size else "none")
    if resize == "none" and "size" in fields:
        raise UserError(f"{source}: size: expected none with resize none, found {size}")
    if resize != "none" and not size:
        raise UserError(f"{source}: size: expected pixels or [height, width] with resize {resize}, found no such field")
    if "multiple" in fields and (fixed or resize == "stretch"):
        why = f"resize {resize}" if resize == "stretch" else f"an input of fixed size {height}x{width}"
        raise UserError(f"{source}: multiple: expected none with {why}, found {fields['multiple']}")
    return {"resize": resize, "size": None if resize == "none" else size, "multiple": fields.get("multiple")}


def extra_inputs(file: OnnxFile, fields: Fields, source: str) -> dict[str, tuple[str, str]]:
    """Return further inputs: what they are, and their type."""
    types = {port.name: port.dtype for port in file.inputs}
    for name in fields.get("extra_inputs", {}):
        if not types.get(name):
            found = "one of another type" if name in types else f"only {', '.join(types)}"
            raise UserError(f"{source}: extra_inputs: expected an input {name} of numbers, found {found}")
    return {name: (kind, types[name]) for name, kind in fields.get("extra_inputs", {}).items()}
