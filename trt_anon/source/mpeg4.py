"""Which MPEG-4 Part 2 packets code no picture; ISO/IEC 14496-2, 6.2.3 (VOL) and 6.2.5 (VOP)."""

from __future__ import annotations

_VOP_START = b"\x00\x00\x01\xb6"


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number; zeros follow the end."""
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1) if self._left >= 0 else 0


class VopReader:
    """Follows a stream's headers, so that a frame's "not coded" bit can be found.

    Two kinds of such packets: those that only fill the time slot of a B-frame that was packed into the packet before
    them (the decoder gives that B-frame: the packet counts), and real repetitions of the last picture (nothing comes).
    """

    def __init__(self, extradata: bytes = b"") -> None:
        self._increment_bits: int | None = None
        self._packed = 0
        self._read_vol(extradata)

    def codes_nothing(self, packet: bytes) -> bool:
        """Whether this packet, given in decoding order, yields no frame."""
        self._read_vol(packet[:256])
        start = packet.find(_VOP_START)
        if start < 0 or self._increment_bits is None:
            return False
        vops = packet.count(_VOP_START)
        bits = _Bits(packet[start + 4 : start + 24])
        bits.take(2)
        while bits.take(1):  # modulo_time_base
            pass
        bits.take(1 + self._increment_bits + 1)
        coded = bits.take(1)
        self._packed += vops - 1
        if coded or vops > 1:
            return False
        if self._packed:
            self._packed -= 1
            return False
        return True

    def _read_vol(self, data: bytes) -> None:
        start = data.find(b"\x00\x00\x01")
        while start >= 0 and start + 4 < len(data):
            if 0x20 <= data[start + 3] <= 0x2F:
                break
            start = data.find(b"\x00\x00\x01", start + 3)
        else:
            return
        bits = _Bits(data[start + 4 : start + 64])
        bits.take(1 + 8)  # random_accessible_vol, type
        version = 1
        if bits.take(1):
            version = bits.take(4)
            bits.take(3)
        if bits.take(4) == 15:
            bits.take(16)
        if bits.take(1):  # vol_control_parameters
            bits.take(2 + 1)
            if bits.take(1):
                bits.take(79)
        shape = bits.take(2)
        if shape == 3 and version != 1:
            bits.take(4)
        bits.take(1)
        resolution = bits.take(16)
        if resolution:
            self._increment_bits = max(1, (resolution - 1).bit_length())
