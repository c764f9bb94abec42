# Writes gbk.deflate, the two-byte codes of GB18030 (GBK), from Python's own table:
#
#   python3 testdata/gbk.py > gbk.deflate
#
# Per code, by lead and trail byte, the difference to the code point before it, modulo 65536: all low
# bytes, then all high bytes. 0 is no character.
import sys
import zlib

points = []
for lead in range(0x81, 0xFF):
    for trail in [*range(0x40, 0x7F), *range(0x80, 0xFF)]:
        try:
            points.append(ord(bytes([lead, trail]).decode("gb18030")))
        except (UnicodeDecodeError, TypeError):
            points.append(0)
deltas = [(p - before) % 65536 for p, before in zip(points, [0, *points])]
content = bytes(d % 256 for d in deltas) + bytes(d // 256 for d in deltas)
compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
sys.stdout.buffer.write(compressor.compress(content) + compressor.flush())
