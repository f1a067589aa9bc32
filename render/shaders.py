"""The shading of `render.painting` and `render.lights` in GLSL, for the graphics card: the same formulas and the same constants.

Pictures of several views lie side by side in one target (an atlas), the first row of each at its top: cameras look through a
y axis that runs downwards, so that nothing is turned over when it is read back.
"""

from __future__ import annotations

import math

from outcrop.render import lights, painting
from outcrop.render.cameras import DISTANCE, FIELD_OF_VIEW

NEAR, FAR = DISTANCE - 1.02, DISTANCE + 1.02
"""What the depth buffer covers, in radii from the camera: the unit ball and a little more."""
VERSION = "#version 400 core\n"


def _number(value: float) -> str:
    return repr(float(value))


def _vector(values: tuple[float, ...]) -> str:
    return f"vec3({', '.join(map(_number, values))})"


def _halfway() -> tuple[float, ...]:
    """Between the key light and the viewer."""
    x, y, z = lights.LIGHTS[0].direction
    length = math.sqrt(x * x + y * y + (z + 1) * (z + 1))
    return x / length, y / length, (z + 1) / length


def _lamps() -> str:
    """The sum over the lights of `lights.shaded`."""
    return "\n".join(
        f"    light += max(dot({_vector(tuple(lamp.strength * part for part in lamp.direction))}, n), 0.0);"
        for lamp in lights.LIGHTS
    )


LIGHT = f"""
// Linear light towards the viewer: lights.shaded, lights.highlight and painting._returned.
vec3 returned(vec3 n, vec3 colour, float sky) {{
    float light = {_number(0.5 * (lights.SKY - lights.GROUND))} * n.y + {_number(0.5 * (lights.SKY + lights.GROUND))};
{_lamps()}
    light *= {_number(1 - lights.CONTACT)} + {_number(lights.CONTACT)} * sky;
    float along = max(dot({_vector(_halfway())}, n), 0.0);
    return light * colour + {_number(lights.GLOSS * (lights.SHININESS + 2) / 8)} * pow(along, {_number(lights.SHININESS)});
}}
"""

DECODED = """
// sRGB as linear light: lights.DECODED.
vec3 decoded(vec3 s) {
    return mix(s / 12.92, pow((max(s, 0.04) + 0.055) / 1.055, vec3(2.4)), vec3(greaterThan(s, vec3(0.04045))));
}
"""

CORNERS = f"""{VERSION}{DECODED}
in vec3 position; in vec3 normal; in vec4 colour; in vec2 uv;
in vec3 eye; in vec3 right; in vec3 up; in vec3 back;  // the camera
in vec4 frame;  // its picture in the target: middle and half its sides
out vec3 a_normal; out vec3 a_colour; out vec2 a_uv; out float a_depth;
const float FOCAL = {_number(1 / math.tan(math.radians(FIELD_OF_VIEW / 2)))};
const vec2 DEPTHS = vec2({_number((FAR + NEAR) / (FAR - NEAR))}, {_number(-2 * FAR * NEAR / (FAR - NEAR))});
void main() {{
    vec3 away = position - eye;
    vec3 local = vec3(dot(right, away), -dot(up, away), -dot(back, away));
    a_normal = vec3(dot(right, normal), dot(up, normal), dot(back, normal));
    a_colour = decoded(colour.rgb);
    a_uv = uv;
    a_depth = local.z;
    gl_Position = vec4(frame.xy * local.z + frame.zw * FOCAL * local.xy, DEPTHS.x * local.z + DEPTHS.y, local.z);
}}
"""

CORNERS_OF_SAMPLES = CORNERS.replace("out vec", "sample out vec")
"""The same, where every sample of a pixel is shaded by itself."""

SURFACE = f"""
in vec3 a_normal; in vec3 a_colour; in vec2 a_uv; in float a_depth;
uniform int paint;  // 0: no colour of its own, 1: of its vertices, 2: of its texture
uniform sampler2D skin;
{DECODED}
vec3 facing() {{
    vec3 n = a_normal / sqrt(max(dot(a_normal, a_normal), 1e-20));
    return gl_FrontFacing ? n : -n;  // corner normals are on the side of their face
}}
vec3 coloured() {{
    if (paint == 1) return a_colour;
    if (paint == 0) return {_vector(lights.NEUTRAL)};
    ivec2 most = textureSize(skin, 0);
    vec2 place = vec2(fract(a_uv.x), 1.0 - fract(a_uv.y));
    return decoded(texelFetch(skin, clamp(ivec2(place * vec2(most)), ivec2(0), most - 1), 0).rgb);
}}
"""

MIDDLES = f"""{VERSION}{SURFACE}
layout(location = 0) out vec4 shape;  // the normal, and the depth: 0 where nothing is seen
layout(location = 1) out vec4 colour;
void main() {{
    shape = vec4(facing(), a_depth);
    colour = vec4(coloured(), 1.0);
}}
"""

FURTHER = f"""{VERSION}{SURFACE.replace("in vec", "sample in vec")}{LIGHT}
uniform sampler2D around;
out vec4 light;
void main() {{
    float sky = texelFetch(around, ivec2(gl_FragCoord.xy), 0).r;
    light = vec4(min(returned(facing(), coloured(), sky), 1.0), 1.0);
}}
"""

SQUARES = f"""{VERSION}
in vec2 corner;
in vec2 place;  // column and row of a picture in the atlas
in vec4 window;  // of the picture: left, top, width and height in pixels
in vec4 grids;  // how many cells the coarse fields of that window have
uniform float side;  // of a picture's square in the target
uniform vec2 whole;  // the target's size
flat out vec2 a_origin; flat out ivec2 a_place; flat out vec4 a_window; flat out vec4 a_grids;
void main() {{
    a_origin = place * side;
    a_place = ivec2(place);
    a_window = window;
    a_grids = grids;
    gl_Position = vec4((a_origin + corner * side) / whole * 2.0 - 1.0, 0.0, 1.0);
}}
"""

WITHIN = """
flat in vec2 a_origin; flat in ivec2 a_place; flat in vec4 a_window; flat in vec4 a_grids;
ivec2 here() { return ivec2(gl_FragCoord.xy - a_origin); }
ivec2 cells(int grid) { return ivec2(grid == 0 ? a_grids.xy : a_grids.zw); }
// Where a field of some cells is made from one of others: the cells that count, and how much (a triangle, as Pillow's BILINEAR).
struct Taps { ivec2 first; ivec2 last; vec2 middle; vec2 reach; };
Taps taps(ivec2 cell, vec2 made, vec2 from) {
    vec2 scale = from / made;
    Taps t;
    t.reach = max(scale, vec2(1.0));
    t.middle = (vec2(cell) + 0.5) * scale;
    t.first = max(ivec2(floor(t.middle - t.reach + 0.5)), ivec2(0));
    t.last = min(ivec2(floor(t.middle + t.reach + 0.5)), ivec2(from));
    return t;
}
float share(Taps t, int x, int y) {
    vec2 away = abs((vec2(x, y) + 0.5 - t.middle) / t.reach);
    return max(1.0 - away.x, 0.0) * max(1.0 - away.y, 0.0);
}
"""

COARSER = f"""{VERSION}{WITHIN}
uniform sampler2D shapes; uniform float size; uniform int grid;
out vec2 field;  // mean depth, and how much of the surface is there
void main() {{
    ivec2 cell = here();
    if (any(greaterThanEqual(cell, cells(grid)))) {{ field = vec2(0.0); return; }}
    Taps t = taps(cell, vec2(cells(grid)), a_window.zw);
    ivec2 corner = a_place * int(size) + ivec2(a_window.xy);
    vec3 sum = vec3(0.0);
    for (int y = t.first.y; y < t.last.y; y++)
        for (int x = t.first.x; x < t.last.x; x++) {{
            float depth = texelFetch(shapes, corner + ivec2(x, y), 0).a;
            sum += share(t, x, y) * vec3(depth, depth > 0.0 ? 1.0 : 0.0, 1.0);
        }}
    field = sum.xy / sum.z;
}}
"""

BELL = f"""{VERSION}{WITHIN}
uniform sampler2D fields; uniform int grid;
out float mean;
void main() {{
    ivec2 cell = here(), most = cells(grid);
    vec2 sum = vec2(0.0);
    for (int y = -1; y <= 1; y++)
        for (int x = -1; x <= 1; x++) {{
            ivec2 next = cell + ivec2(x, y);
            if (any(lessThan(next, ivec2(0))) || any(greaterThanEqual(next, most))) continue;
            sum += float((2 - abs(x)) * (2 - abs(y))) / 16.0 * texelFetch(fields, ivec2(a_origin) + next, 0).rg;
        }}
    mean = sum.x / max(sum.y, 1e-4);
}}
"""


def _shelter() -> str:
    """The sum over widths of `painting.open_sky`."""
    return "\n".join(
        f"    below = max(shape.a - mean(wide{grid}, {grid}, cell), 0.0);\n"
        f"    sheltered += below / (below + {_number(width)});"
        for grid, width in enumerate(painting.WIDTHS)
    )


AROUND = f"""{VERSION}{WITHIN}
uniform sampler2D shapes; uniform sampler2D wide0; uniform sampler2D wide1; uniform float size; uniform float coarse;
out vec2 sky;  // how open the sky is, and whether neighbours differ
vec4 shape_at(ivec2 pixel) {{
    if (any(lessThan(pixel, ivec2(0))) || any(greaterThanEqual(pixel, ivec2(size)))) return vec4(0.0);
    return texelFetch(shapes, a_place * int(size) + pixel, 0);
}}
float mean(sampler2D wide, int grid, ivec2 cell) {{
    vec2 most = vec2(cells(grid)), scale = most / a_window.zw;
    if (all(lessThanEqual(scale, vec2(1.0)))) {{  // two cells along each axis: what the texture unit does in one go
        vec2 place = clamp((vec2(cell) + 0.5) * scale, vec2(0.5), most - 0.5);
        return textureLod(wide, (vec2(a_place) * coarse + place) / vec2(textureSize(wide, 0)), 0.0).r;
    }}
    Taps t = taps(cell, a_window.zw, most);
    vec2 sum = vec2(0.0);
    for (int y = t.first.y; y < t.last.y; y++)
        for (int x = t.first.x; x < t.last.x; x++)
            sum += share(t, x, y) * vec2(texelFetch(wide, a_place * int(coarse) + ivec2(x, y), 0).r, 1.0);
    return sum.x / sum.y;
}}
bool differ(vec4 one, vec4 other) {{
    if ((one.a > 0.0) != (other.a > 0.0) || abs(one.a - other.a) > {_number(painting.STEP)}) return true;
    return one.a > 0.0 && dot(one.xyz, other.xyz) < {_number(painting.BEND)};
}}
void main() {{
    ivec2 pixel = here();
    vec4 shape = shape_at(pixel);
    bool uneven = differ(shape, shape_at(pixel + ivec2(1, 0))) || differ(shape, shape_at(pixel - ivec2(1, 0)))
        || differ(shape, shape_at(pixel + ivec2(0, 1))) || differ(shape, shape_at(pixel - ivec2(0, 1)));
    sky = vec2(1.0, uneven ? 1.0 : 0.0);
    if (shape.a == 0.0) return;
    ivec2 cell = pixel - ivec2(a_window.xy);
    float sheltered = 0.0, below;
{_shelter()}
    sky.r = max(1.0 - sheltered * (0.25 + 0.75 * shape.z), 0.0);
}}
"""

CLOSED = f"""{VERSION}{WITHIN}
uniform sampler2D around;
out vec4 light;
void main() {{
    // Where neighbours are alike the middle says it all: nothing is nearer than what is drawn here.
    if (texelFetch(around, ivec2(gl_FragCoord.xy), 0).g > 0.0) discard;
    gl_FragDepth = 0.0;
    light = vec4(1.0);
}}
"""

PICTURE = f"""{VERSION}{WITHIN}{LIGHT}
uniform sampler2D shapes; uniform sampler2D colours; uniform sampler2D around; uniform sampler2DMS further;
out vec4 picture;  // sRGB, and 1 of 255 where the middle of the pixel shows the surface
void main() {{
    ivec2 pixel = ivec2(gl_FragCoord.xy);
    vec4 shape = texelFetch(shapes, pixel, 0);
    vec2 sky = texelFetch(around, pixel, 0).rg;
    picture = vec4(1.0, 1.0, 1.0, 0.0);
    if (sky.g == 0.0 && shape.a == 0.0) return;
    vec3 light = vec3(0.0);
    if (sky.g > 0.0) {{
        for (int n = 0; n < 4; n++) light += 0.25 * texelFetch(further, pixel, n).rgb;
    }} else
        light = returned(shape.xyz, texelFetch(colours, pixel, 0).rgb, sky.r);
    light = floor(clamp(light, 0.0, 1.0) * 4096.0 + 0.5) / 4096.0;  // the steps of lights.encoded
    vec3 high = 1.055 * pow(max(light, 0.003), vec3(1.0 / 2.4)) - 0.055;
    picture = vec4(mix(12.92 * light, high, vec3(greaterThan(light, vec3(0.0031308)))), shape.a > 0.0 ? 1.0 / 255.0 : 0.0);
}}
"""
