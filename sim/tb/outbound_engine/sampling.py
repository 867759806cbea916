"""What a packet that was protected was for the coverage of traffic, as far as its headers are concerned."""

from __future__ import annotations

from appliance.esp import ecn
from appliance.esp.ip import Ipv4Header, parse
from appliance.esp.tunnel import Dscp, Tunnel
from sim.coverage import traffic
from sim.tb.model.outbound import Outbound


def sample_headers(model: Outbound, packet: bytes, form: str) -> None:
    """Count its headers, and what was made of them in an outer one."""
    traffic.headers(traffic.outbound_headers, form, packet)
    tunnel, inner = model.form, parse(packet)
    if not isinstance(tunnel, Tunnel):
        return
    inside = str(int(inner.dont_fragment)) if isinstance(inner, Ipv4Header) else "IPv6"
    outer = traffic.Outer(
        form=form,
        ecn_copied=tunnel.copy_ecn,
        ecn=inner.traffic_class & ecn.ECN,
        dscp="set" if isinstance(tunnel.dscp, int) else "copy" if tunnel.dscp is Dscp.COPY else "clear",
        df=tunnel.df.value,
        df_inside=inside,
        flow="copy" if tunnel.flow_label is None else "set" if tunnel.flow_label else "zero",
    )
    traffic.outbound_outer(outer)
