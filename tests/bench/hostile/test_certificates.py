import ssl

from bench.hostile import kinds
from moorage.cluster.certificates import MOST_CERTIFICATES
from moorage.discovery.secrets import LARGEST


def test_each_ca_bundle_is_another_and_as_large_as_the_operator_takes() -> None:
    bundles = kinds.bundles()
    one, other = bundles.another(), bundles.another()
    assert one != other
    assert len(one) <= LARGEST
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=one.decode())
    assert len(context.get_ca_certs()) == MOST_CERTIFICATES
