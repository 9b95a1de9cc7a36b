from tests.web.world import NOON


def test_pages(world, maya, browser):
    s = world.store(maya, last_delivery_at=NOON)
    o = world.order(maya, s)
    d = world.delivery(maya, s, order_external_id="id #1001", outcome="created")
    r = world.run(maya, s, state="finished", finished_at=NOON, created=12, updated=3, verdict="complete")
    for p in (
        "/orders",
        f"/orders/{o}",
        "/orders/sync",
        f"/orders/sync/{r}",
        "/stores",
        "/deliveries",
        f"/deliveries/{d}",
        "/settings",
    ):
        a = browser.get(p)
        assert a.status_code == 200, (p, a.text[:2000])
