"""`GET` and `DELETE /v1/cache`: contents and statistics of each tier, and emptying a tier."""

from __future__ import annotations

import asyncio
from typing import Any

from mlxdeck.server.errors import BadRequest
from mlxdeck.server.service import Service


async def cache_report(service: Service) -> dict[str, Any]:
    """Every tier by its name: exact answers, then the backend's own."""
    caches, tiers = service.caches, service.caches.tiers
    body = {"exact": tiers.ram.stats.report(len(tiers.ram), tiers.ram.n_bytes)}
    for tier in tiers.slower:
        body[f"exact_{tier.name}"] = tier.stats.report(len(tier), tier.n_bytes)
    if caches.disk is not None and (answers := caches.on_disk) is not None:
        told = {"waiting_bytes": answers.waiting_bytes, "given_up": answers.dropped}
        body["exact_disk"] |= told | caches.disk.report()
    if caches.shared is not None:
        shared = {"working": caches.shared.working, "errors": caches.shared.errors}
        shared |= {"dropped": caches.shared.dropped, "refused": caches.shared.refused}
        body["exact_shared"] |= shared
    body |= await asyncio.to_thread(service.backend.cache_report)
    return body | ({"notes": caches.notes} if caches.notes else {})


async def clear_caches(service: Service, tier: str) -> dict[str, int]:
    """Clear a tier, or all of them if `tier` is empty; return the number of entries.

    Raises:
        BadRequest: There is no such tier.
    """
    tiers = service.caches.tiers
    slower = {f"exact_{each.name}": each for each in tiers.slower}
    names = ["exact", *slower, *await asyncio.to_thread(service.backend.cache_report)]
    if tier and tier not in names:
        raise BadRequest("tier", f"expected one of {', '.join(names)}, got {tier!r:.50}")
    cleared = {}
    for name in [tier] if tier else names:
        if name == "exact":
            cleared[name] = tiers.ram.clear()
        elif name in slower:
            cleared[name] = await slower[name].clear()
        else:
            cleared[name] = await service.backend.clear(name)
    return cleared
