import ssl

from bench.hostile import kinds
from moorage.cluster.certificates import MAX_CERTIFICATES
from moorage.discovery.secrets import MAX_VALUE_BYTES


def test_each_ca_bundle_is_another_and_as_large_as_the_operator_takes() -> None:
    bundles = kinds.bundles()
    one, other = bundles.another(), bundles.another()
    assert one != other
    assert len(one) <= MAX_VALUE_BYTES
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=one.decode())
    assert len(context.get_ca_certs()) == MAX_CERTIFICATES
