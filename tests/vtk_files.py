"""Files that VTK 9.7 wrote (`vtkXMLPolyDataWriter`): a cone of 8 points with colours, in each encoding that it has."""

import base64
import zlib

CONE_AREA = 3.79738
"""Of the same cone, as VTK's own STL file of it has it."""

_PACKED = {
    "Ascii_none_0_32": (
        "eNrlVttO4zAQfecrRnldtfUtTiy1SCwLCHFVYXmtTHHB2tRBaUD073ecQGIXqWgl0D4gNU18jj0zHh/bM765Pjm0hYF6/WgmyWVZrH/pWifwbK"
        "qVLd0kIUOawO26NrOyujPVJDm1dV2YA3dntUvgwWhEZ+3w38eu5izZ3QEYv5nyDd+0Zm7g/Gl5a6qLxWVpXb2aJHnSQTem8gjpkVPrTIxc1ZV9"
        "jCHvpjHU+mkco23vGa7mutAVstOjnx2PPTy5V1V6DX3YPhK9NG3fzvp+uXwsnWli5Qksymqp60miV3NrE5hqd2/OLCaJETrMieCSZERSksr0jd"
        "UvyGZkKKjkAnGVKcWCYAAIsDQFRYDjF/NfASkJUNWw+KNyg6UMQd7QNMWHbPI5gayhGSUgNtjxsWsnhOt8Ytbgmvmfstn5xfRsNt07PzpIoCjn"
        "TYdJ8lz/6RKHuHH39QPOLZoLGr3RxZMB6+7Mi1+omAUIMkXjgaNm5DZr9L21PrPyI2vjUTzfQBCjbmKdikadjDpo3xRFBIzeIa2ut0jtsCi13y"
        "KvYmv7/7veaCgvOqS40JwrRaXkJGd5lCeKCiMwwNcwhXD9G4hTmgmh/JciiqYoF8QHuOspZZKIDBmRZ0JylcZjsY9IiciFYNiHUakEzeUmM+ip"
        "d8M7F4PeRxzVoA/rfwv3E9QaLFT2FWrthDduDtMtMsQDT4o3Ec5L58y8ts+2Xm/TnPnBlAqFN3iFtsb2kfdysVgZvwc+2zEmNczCuLlOvn1Ooi"
        "yM2wv12yclTkNTunx2UkgYVhYdDRlISEEAB7ZxbFNgvjwIUI5tjn3xNg9QPNfxkfgvI7t4+wfn1pfkPIsKnXxjYtTXJ1i3YBGDtU1AYZ3D8o+O"
        "tG4VsOHLx6auHPWFJe7wtnrd3fkLd6HFiQ=="
    ),
    "Binary_none_0_32": (
        "eNrtVk1P4zAQvfMrLF+rbZKm5ENKkEJb2i6lhQKN4FK5wU29pE43mC7ZX792AolTooJWsNoDPnlm7Jnn5yd7nNnV6QmJMGDpBrvwPI7SLmIIgi"
        "1OHkhMXag2NQgWKcPzOLnDiQtHhLEI9+gdQRSCFUbcO8+3Xw8p01vw6AAA5yWVMIRJcIDB+HG9wMlkeR4Tyh5caMHCNcOJ8KilZ0QornouWUI2"
        "VZcokyXK62SFeW5RGVwGKEIJj077x0WcrxBBL0lQCkrYAgla43xtkb0TrzcxxRlWHYJlnKwRc+GCUJSkEEwRDfEZ4Sy1VK1pqW3dUE3V0NRD4/"
        "Alip541FSbbc3Q29xvm7bdktAA0PfE6Cr+ylz5P353/ehn5FMy8De3Gz+Zjnw2ZH7outIWZ0hzLPyKTnEKaAZ91JqPJ9Oz+dQb93sQRHGQLXDh"
        "lt0XZ+Z+TEO24qgqKHjSGYoeMSD0Dj8JjqtRAKQzatWNSrZzXzbtdbaSE+OtbI5SPa90l0pxsEIASqGAwtXBUVRxKK88uST3qOQkipFQ97NO8v"
        "V/IRVNVobW1DRL1XXb1gxDV62WVSHqxstH2LU8eYSjzFYke0Bvrcagsxieh8JuDPTJxG5/vzrMbSXaYNTwyC3etbc763O7zLf9D6T3AXqTmDY/"
        "Q2+FdJzsJdsjJP7aGO0XGQUxpThgZEtYulc1uNGybVk6355dMvBcDdJ91eB9C1G8XD5goex/AYaTL7PlZG/+F3fv5K7ClpP/jl/kvZO8Kl1Zv/"
        "Lh5KkyVLMCsp2BDIon/TgspiflQ39RTn8Vs07p7Hk147icDuvi0v6zuni3tn5t0eu6uIT/pi7eL6dBXXxQV+qTlWVW+rXqL3yxA7VTXtW4jvRe"
        "eVV+Gb+vO5/71s9SiJIbooXOemulbK75A5p38EcHfwD+qTLL"
    ),
    "Binary_zlib_0_64": (
        "eNrtV1uTojgYfZ9fkeLV2paLgFTJVAVEtG3w1t76pStqVBxMegEv9K/fANNcdnrs2q3pmpfxKTn58l1OjslHa/bY73g+BlH8gnVuSP24jSLEgT"
        "MOQo8SnRPueA6s4gg/02CDA50zvJ1FNh4iHNhjxKDnbO+0RyKlwYE1Pb4EOAwpsz1H354evFXi0sxh7usXAFpvoZJJMvXwGgP3dFzhYLAdUo9E"
        "oc41uRya4SBB+AJ58AiuIpMo8F6qUBImdZTFSQMz30lkMFkjHwVsdWwb+TqzSBZhEKAYFJUlmaAjzmxz70lRlOA0V4kDWxocUaRzK4+gIObAGJ"
        "EddjzGosgLd02+ISm8yisCLyvy2yq6slWVv2sIitRguKZqmljKBgCY/6x8NCrAZT4yLR135EPNaPraa7svE2MquH3qnRFFT/54rsaHh5Nvw5HZ"
        "ncHgvhSi1SNZ7uzI+zgGJC31QXx2B2PneQxd2+KAT9epQXqsOUcMx2QX7VkVlayZ0xnyTxh4ZIOvyZlUVwEocSJUN9bTnbe8CT96KzhUPvLWql"
        "frLZ19PS8sF0w9V0wOmdj3K0D9ByST8A1VdXyKIkl801Vm/z+kJZSVJNwJQpOXJE0TFEXim2LzJ1LqvSelXT5qF1LrQ53JSnldiSbc1QUYHfiJ"
        "KKq1RReplkjj3nCFr9IWqQt5gEeGp0onUev7G2LQRw/yUKL8I5X2WKxvQmXjauv5i1O7hkt7uKydo0FNreGpEZuitI1ldRgN/na+MSnPZMve6b"
        "9bor9Al6UTUT9Dl7nEWukNeUNw3+/nTG5rSgheR97Zi+Kb6sI1UdPKEvvrO/S+ruB7uoK36vgoU7rdhjj5Z/zOJNlhldltpW/PH64/iesKu63s"
        "Vf9D9ieRXaU37ct+Odl8uQT1J8mPbj9JZgHaBbrIR0Yv7X5YO9Te7A6dC0T+HFm8KY+P++jemd7T8eTgMMNJExpCY3F0mRfXNp0FvPZgf9m9Ht"
        "2utSSXKeup1tDq7vFSNJj5dXTcz2a2I5PR1SXwAs3TDq6KWE9TOHBeWaZG+wJHn6wItdI3Nv9LowhLVP6LqrmPkc3D+9GcUeVNO3QyCUNmeAlh"
        "j9c/eoVywbBJ0san/X29aPDZ5Zl9ZXz98g+ctG3k"
    ),
    "Appended_lzma_1_32": (
        "eNrNl1tvqkoUx9/7KQivJgUEb4l2Z4GAWkURFfWlGWFEKreNeOun3wO0WrutPTk5J5EHnZm1Zs36/dcwQP3XwfeoHY43bhg0aO6RpX89PdQno2"
        "fF9TCVHCPcoAehd2yiBNFnR/aRo6nFMcEvYWzjuEF33STxsBzYLgpoaoURGX3Jp4/bQcIXacoK/SjGm01I3HfJujvvQRpVOg3TTw8UVf9YLe2k"
        "XRdbmNK2/gLH/eUgdINk06CrNHXl+vCa4Dh1Ym86dd0A/+hkJLEb/eiVpvxdUjlGxkVST8Eow0IeismEoSrSH3bikRohjtGROgtHYmrIx7nvac"
        "FUszDAmRQ8TS3D2EdJg0ZRhAMb2zQ1RIGDey6pVJHlHquswJfZCnfOL7ejA7FX2EeBK/NCqVw+28PlcoOTb7iZExNzgjoNSdjzLgaYv0byIt4A"
        "V7wQZVsmR8/9/xU9d7VuZ3rukeOqLM/Xalzlb3queKWkX+lPIPVs293AIuUsCx9QVhgE2ErcnZscbzNcRfjEcN3+wSCwwg2Gn7LMo2z+1wSL7E"
        "2RL1StZ3ft3WnMl+9c41LxpsYXqtbzQ+/uRC5X71zkqnBT5EtZs+fc3YlcYtn7FrnGF384kk+qkk767pC9VDCf3yrq8J5W9jTGgRXabuA06AXa"
        "YAKTzX4BHQBkSK9Z+jPKmo0GM7LLphKSthK1E6EIG7BUSRYVR2qN1vEzmTeFQQ21tgoa9DRk/p4g3LaR53sokRPEuhwClQtmMgtg7Gcsu1hIkS"
        "j5OitmS4AyN51GA5zT+mkL5plJz5K4kgOrZzk0zZE9iwQABqSDDSCumN20wC8sP3ZfffMQtFrtPn9cNYtvb8musLVxTbACRo8Lo5hnuQV3UIXk"
        "+TlWydTppMb3AMZD2Aalwf5rjjuWx94KkY6IjC7WnC50JFjBkMjVdI6bvQytgumVYkHqeOUCgAQ7YWkJFd7xBn7e32M7eBOszsYtQFeotTUyd6"
        "Q7irqQws4VTeCkyfn6D/siXGqe1Vzep5Z22hze2AO5/pJ2dAMp018cEv37oBXUpjcO/cO+8CbPpxIa60O9ZwEMCv32jPAaB0JXixeln/VV17m+"
        "a8nbK30SYg/GlGwJp1lMtoOjyvcdgy3uY94aGO9EXGFpERb5t97pCb2Rr+vRWsv2NjGak7im8dHMTGnNtcu/zqS9uIK2LpvQ2ba3SuBAswqyQv"
        "aqGjH4oBwXM6dTiWqsIev2GKShVmZJLeVQFxUk7rf/IH7PyeKL48EIxQ6IVZA4El+AUsQYMVK32f0GWp9565B/o+c4244Yza/sB/2yfuPv62Pn"
        "9YFQnY47eX0m7/Vpm1hvF0wZxtpw9NoKBl2rNhfYtOwgefZErZBFEl0xtlYLfeELG9np8vlAIZ9PzPv309PDH3lOl/0="
    ),
    "Appended_zlib_0_32": (
        "eNqzCQvxdsvMSVUoqSxItVUKyM+pdEksSVRSKEstKs7Mz7NVMtAzVFJIqixJjc8vSkktslXyySwpyUl1zUvJTMxTUshITQSKxkO0h3rmlRgbKS"
        "kk5+cWFKUWF+cDlZeVZEf5ZCaBTHWGCyvZcSko2MBsA3FA3MzU5FQFv9LcpNQi/7SA/My8kmJbJQslBSwApiostQikyACvIp/MvFSCioJLijIL"
        "CKoCORmXoyDeAPsL6HSQxxSCkxNzEouAGoLcnZRg8kAVIEnHoqLESgVEwAHN9EvMTYWohVsICrP8vFRwUBgrKaTlF+UmltgqJRYUpOalpKYoKQ"
        "Ql5qWn+mYCY8rIwFDPwsDE2MzA3BDhPoh8YgVQ3txAz8TQzNjE1MwMIZ+fllacWoLD3/pwP+nDPQUXck7NyUER0McQgUQiHo+75eQngpMMxOsQ"
        "9WT53hBrvCF8b6hnaGhhYGxsaWlojul7E0slwr6He8QGnOzweAsYnWYmME8l5+flpSaXZJZlllTi9wNWLyD5Abs8zA+GpuZKuP1AyJUQU4pp6k"
        "AzSyV8gYwSqjbgXDvowtjCcJCHsaUx3jBGCVUbSKE32ALZyMB0cAeykaE53kBGDVZwPTf4AtnIcnAHsrGpgRL+IhkeqkAOqO0AblToI7cqbByh"
        "zgLXxql5yfkpmXnptkpFieWQ6jiekYGBwQGIJYBYEYgr4pJ/yKt+Nzj1rCDkyqUVXd9WZM4MjN6zWO+lGyNDewjXSSaoBgUgNgJiNYimhIwN6Q"
        "3NbX8dDskdS5tvfd/P7W2LbMfduucf77EH1zXd9J9ud/v4EjH2NGaGs8HCiyviqnd9uWmntnVHLQ8P7+/b723u/U445W8wu/ZdjbXkVuHfDJIf"
        "BDIYoHbBALlsFiQ3y0A9C8KCELenNzCYaZzlWhq5wMR4SlrTpR6eFQwMrA0MskC5lAYGNbYQhsfGizsP/9AJkGJg/MAgAPJvA4OYxtlTDVwJNW"
        "YmhRLyDMwFDNIgsxxY3wTMEvRiZmCsYBBgRHKEHNwyPY2z3EtZF2wxmCLWfGlSQBQbULUAA0MvOPqQY8yOC1gpQBqodlwAlkO38A=="
    ),
    "Appended_none_0_64": (
        "eNrNVk1v0zAYzlZKpUpISEgIpAlZPuxGmzRZ2klJxxgMoY0xbbBDDgyvdTdLqVOlZqw3bvsDiBvitH/AlXLgwpkzhyEE/4ETOImTpl6bCiSk+J"
        "DH74ed93nsxLb2nmysExcDNuhhG2577uAeYgiCY+z3iUdtqFVUCA4GDO97fhv7NtwkjLn4Pm0TRCE4woh796PhTx9SZhqwWQbAiqcKjMAkuIXB"
        "1ovuAfYfd7Y9Qlnfhg0IJrQ4aw/7QZKambRJKJ6ZtMt80puZFZQ8raiIRsiLlx4QA7st5CKfD9h5cBfGcZ4RBFd9Hw3ASBU+5xbq4ig3eeGa1+"
        "15FIdS6BB0PL+LmA1Rr4dpG7ch2EH0ED8ifBlqqlZpqIZuqnVtVF8URyc8XlcrhmbqxpJpjuJep9PHbArvasKpmpBKXGvYdccc1QueaBEziK+7"
        "HmJ6LaYe5f8Te23iuo3YaxVNa6i6vrys1S+yD0qYyT4hYoXbLoNWtMkFqZZHKW4xckzYIJvDRAopDpPjMQdNN+F0DrOqjGbp/9cCDQNmiTymqh"
        "V+tbnTeKmWc41NNVPjMVWt6KeXO5HNRs5FrpuZIo/LGp5z+RO5YeRbZH5UwexfcqIqN4K7Q3ipqKZvFdaqKCs8jTFteW1CD23oo5fRcbx/QxHt"
        "t3Prm2N9cpwz5+TUeUOc9xvOl9vO8ziuvFpRRv2P/LES90tv3zUXFj83g/7p1+8fzl//Cvs/zn4O5xefpfvDVM4wNXao/GU7F1gSeFlgUeAlgQ"
        "WB8wLnpHnmpLgi2QXJX5DmVyS7KPmLUn2KZJckf0mq647kLwu8IvCqwGsCrwu8KXAhHhdsjfRuaJb5gRPdbJvlPzqydS4="
    ),
    "Binary_lz4_0_32": (
        "eNrtVltvokAUft9fMeHVrICgYiJNDtQLrXdb2+2LGXGkbHGwSLHur9+ZoSKkWbtp2t2X8oCZcz/ffHJOc3Z12fYDguL9hpjSKAz25zjGEkpItP"
        "VDakpKWZXQYh+TeRgtSWRKPT+OA9KiSx9TCd0TzKTz1P3aobFWkZAbrjcR2W5DZp7ED707nQe1M6l09g2h5iEZP/CjT1yCBk/rBYmGq1Ho03hr"
        "SoaUiWYk4hLlKOn5lBQl0zjyN0URTyMCpXlEYhabZ0ZTFwc4YtpJx8r0zIIrIYrwHh0b45XgNUlts+i8qZASUasmoVUYrXFsSguf4mgvoQmmHu"
        "n7DMeKopYNRddqSl2pqUq1Vj1o8TPT1pWyrtY0nckb9UajkqsGIRgDQAv484O/Oh5/m6YBDyCrIdFnobFTN3gz2+j36uMNnj0qUzWa9mahmQvT"
        "dGhaH7vYS7JHVLTTq8wHw0l/PoFBpyWhIHSFgbi5DAcmJ9SL71mlhcpY0BkOngjy6ZI8c9yLWoRyfatFR1l4noqmvo52xKn2VrSmXOw3d79y1l"
        "hGCjljRSaySRAUBPIrSUrTE8xpByEW/4mUO6n9O+ij5tmillXVUDSt0VBrNU0xKkaRLl5GF0GU0Y69bEdwxvCuARyQIf84tpzaGWAAgWRHlvSX"
        "7l5svRJzhERfuXpd84LRQ6kD51DFt+vEc9a3P3Xha1jdYENwCfw7krCMXq/U1YbDhn5xVU3PRpfeGaWuvXASz/zvlPwAHuZuoP4ZPMwo1RRfvR"
        "MEY1+mmn6glxtSStzYT/x4f5JNpFRpNPKU+v4iKvAIMh6J51Tdb1UWrlZbwpn/L4til5FHrynmxReW78SygF4znbRfYL4TzCJ8Yhf6cDCVfMn1"
        "QrEWFEfExXFE+EI1TjcMx3OBbR9Ti/06O2jbAFcWc2nt+g5YfZufYeylQQ7TxGsJH2A+1piZsWTtcX/KZwVTjNn4OcJk9bntS8xrVsA4tbHGHV"
        "bDOXg2WMfgj9YOrJcY1jFjbqR8DgPqhV3N+NNyBhmUOejsFLoBh6rF23wW0N3wc4dDZ+3+kjM5krADX5fFHi0fF2n2wUv3+bNvvwH360Ii"
    ),
    "strips": (
        "eNrNl9mOozgUhu/7KSJukRoIu5R0iwA1WVmykOWmxWKWhNiENeTpB5KqVNV0TWpmpJHKUoKXY/t8v4+N6f08H+NOCdIsQrCPUd9J7OePbz1rOX"
        "mKYtDJ6wT0MQPFtWLnNvZqSH6nsI5T5+AXSj2Q9rFplOcxUKEX2RDrhMBuan/duq9GMKe7WMdFxyQFWYYa8zI/7KaR044q36uxH986nd7LbG2h"
        "LUbABR2tODog1X0DRTDP+hgtYJ3f04uVBdLWiPzI5m40jSD41GiRp1HSWFHUo/lal/9uqBvGlatxvQXraCg92nHT4TmDvdg0Vq2BlKZ2/az9U4"
        "zsq3qafQSvPe5Tt+ohCG6iYB2/bc/7mJ0kAHrAwzpzGwZgFl3XTLwlnqa6d1dv7fb5uvi3RNFvQJDvZyD/GzjiTkfc8e5VMojjdxXEbzW35fzn"
        "+Df7/0jP3OgFjuU+oCe/s8/4HPu62C/0XY7BPqW/g/SuAfgAq9kR7YA3KBdBCNw8KqO8fszwYai+Yfi4/YWB7T5i+MzL2yjZ/+ogQz4U+Z2qve"
        "v+/XIav4mtr6kx332o8TtVe7fj78uJLAhfW2Sh+/i0eC/r9Y335UQWSfJriyxS3CdH8l3VptDeIq7XC+Lt/aInPbt1fS8D6CIvgkEfc+wMNDDX"
        "3r8kU2qS3PyUUZvP26LU74PxWTsopG5aqhmuBXKUbgPSqsuMWe+oYHuYBOvxcBGSlmIHljOZzThhYbPyZl5ra6QpZx6JtFOuYg93pkeguX6cU1"
        "OrgKfJOmS7xzjojhZEmg7RktGPgsLbEVTRAALCf3J5lC9Q4Z4KPN4i3N1rF2LJGYeLPdrRf1Q71hxw5gA3B8AbcPYxJHhP88Q0WRk5FfO0VsY6"
        "P1HGaUiDSmWXw8m2/RuJ82EsEWjIzfD98HTmAh/RnMxW2dx0x+xfdcjM9zpIlrqaxwIpx6V5dKuCRfxiAM06tEhk2dNNhFJdzTmokpmpLhby06"
        "oOt7ijXXhoTQAj4oCHG0VLIpw3o+UsZaaWuL4IeOydPQevz3hiC4XCLLMZ0F2jhGt64isRxcz3W5+vKWYH7fEl3ArKpsyE6S5QGCJQl7U8JxSG"
        "SmYJD9YKF4niPtERfihZJ4wtX9xkmWs43QgeVH80AltTMEMuHHKqj+b47bkjFkJlXE759nxd+qsGb9O/KL9qWEmBJMHqrqF3OBwWwUEyB8OhP1"
        "+pT7Ti4wS5MnYxd5qe4ZzckasZNVsR51TWrYukFnwgL51qUBCVTGdMUOlMsLTcqjoVzIApGKI8ZlnN753LsB4WWjkmRjrTFdh0SQ6FMSH7Ak+M"
        "jQrniYSiM52vC4EhBtwGotxwiWo/m+5xcDrThuYVus8WuCuCVPD8mbTG901Y6eKe3sOyS/vBJizFSZl4ol4iopLMc7Xbv7IOtm1ufI+XarljJO"
        "lpEebSZJ2jqbmMDVsiS9bUw3ASkkZiy0ETuauBW0oyE/T7n+l63dlvN3PzEUM8f8X8+PYn37aFbw=="
    ),
}
VTK = {name: zlib.decompress(base64.b64decode(text)) for name, text in _PACKED.items()}
